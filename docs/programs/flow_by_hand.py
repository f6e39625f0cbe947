"""A flow composed by hand, trained on two moons, scored and sampled."""

import jax
import optax

import gdm

x = gdm.data.load_dataset("toy2d:two_moons").split("train")["x"]
layers = [gdm.flows.MaskedAutoregressive(gdm.flows.RationalQuadratic(), ordering=order)
          for order in ("natural", "reversed", "natural")]
flow = gdm.flows.Flow(gdm.flows.Normal(), [gdm.flows.ActNorm(), *layers], event=(2,))
optimizers = {"model": optax.adam(3e-3)}
state = gdm.training.init_state(flow, optimizers, jax.random.key(0), {"x": x})
step = jax.jit(gdm.training.make_train_step(flow, optimizers), donate_argnums=0)
for number in range(300):
  state, metrics = step(state, {"x": x[None, number * 256 % 9728:][:, :256]}, jax.random.key(1))
nats = flow.log_prob(state.params, state.carry, x[:1000])
draws = flow.sample(state.params, state.carry, jax.random.key(2), 1000).x
print(f"{nats.mean():.3f} nats, draws from {draws.min():.2f} to {draws.max():.2f}")
