"""What jax's arrays give: the whole array, also where jax has spread or deleted it."""

from __future__ import annotations

import jax.numpy as jnp
import pytest
from support import child

import dlexchange as dx

each_consumer = pytest.mark.parametrize("consumer", ["from_dlpack", "to_numpy", "to_torch"])


@each_consumer
def test_sharded_array_is_refused_and_replicated_one_is_read(consumer):
    child.run(
        f"""
        import warnings
        import jax, jax.numpy as jnp, numpy as np
        import dlexchange as dx
        from jax.sharding import Mesh, NamedSharding, PartitionSpec

        warnings.simplefilter("ignore", dx.errors.ReadOnlyWarning)
        consume = dx.{consumer}
        mesh = Mesh(np.array(jax.devices()), ("d",))
        x = jnp.arange(8.0)
        sharded = jax.device_put(x, NamedSharding(mesh, PartitionSpec("d")))
        try:
            print(consume(sharded).shape)
        except dx.ExchangeError as error:
            assert "sharded over 4 devices" in str(error), error
        else:
            raise SystemExit("a shard was taken for the array")
        replicated = jax.device_put(x, NamedSharding(mesh, PartitionSpec()))
        assert dx.to_numpy(consume(replicated)).tolist() == x.tolist()
        shard = sharded.addressable_shards[1].data
        assert dx.to_numpy(consume(shard)).tolist() == [2.0, 3.0]
        """,
        env={"XLA_FLAGS": "--xla_force_host_platform_device_count=4"},
    )


@each_consumer
def test_deleting_an_array_whose_memory_is_used_leaves_the_memory(consumer):
    child.run(
        f"""
        import gc, warnings
        import jax.numpy as jnp
        import dlexchange as dx

        warnings.simplefilter("ignore", dx.errors.ReadOnlyWarning)
        x = jnp.arange(1024.0)
        shared = dx.{consumer}(x)
        x.delete()
        assert x.is_deleted()
        assert dx.to_numpy(shared)[-1] == 1023
        del shared
        gc.collect()
        assert dx.stats().live == 0
        """
    )


def test_deleted_array_is_refused():
    x = jnp.arange(3.0)
    x.delete()
    with pytest.raises(dx.ExchangeError, match="deleted"):
        dx.from_dlpack(x)
