"""Networks of discrete diffusion: partly masked or noised examples to logits of every dimension."""
