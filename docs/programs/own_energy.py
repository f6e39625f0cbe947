"""An energy module of one's own, trained by contrastive divergence with the library's chains."""

import flax.linen as nn
import jax
import optax

import gdm

x = gdm.data.load_dataset("toy2d:ring").split("train")["x"]


class Rings(nn.Module):
  @nn.compact
  def __call__(self, x):  # [batch, 2] to an energy for each example
    radius = (x**2).sum(axis=1, keepdims=True)
    return nn.Dense(1, kernel_init=nn.initializers.zeros)(nn.silu(nn.Dense(64)(radius)))[:, 0]


model = gdm.energy.EBM(gdm.DataSpec((2,), None), network=Rings(), objective="cd")
optimizers = {"model": optax.adam(3e-3)}
state = gdm.training.init_state(model, optimizers, jax.random.key(0), {"x": x[:1024]})
step = jax.jit(gdm.training.make_train_step(model, optimizers), donate_argnums=0)
for number in range(200):
  state, metrics = step(state, {"x": x[None, number * 128 % 9856:][:, :128]}, jax.random.key(1))
print(model.sample(state.params, state.carry, jax.random.key(2), 500).x.std(axis=0))
