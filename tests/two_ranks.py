"""Started by `torch.distributed.run` in two processes: trains, and prints what each rank ended with."""

import contextlib
import hashlib
import sys

import train
from pix2pix import arguments


def digest(networks):
    total = hashlib.sha256()
    for name in sorted(networks):
        for key, value in networks[name].state_dict().items():
            total.update(key.encode() + value.detach().numpy().tobytes())
    return total.hexdigest()


run = train.Run(train.settle(arguments.explicit(sys.argv[1:])))
with contextlib.ExitStack() as signals:
    status = run.main(signals)
print(f"rank {run.rank} of {run.accelerator.num_processes}: {digest(run.generators)} {digest(run.discriminators)}", flush=True)
sys.exit(status)
