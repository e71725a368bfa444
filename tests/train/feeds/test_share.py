"""Two real processes: each decodes only its share of a folder, held in memory or streamed, and both get every batch."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
from PIL import Image

_PROCESS = """
import json, sys
import jax, numpy as np
from gjax import data
from gjax.data import folders
from gjax.methods.core.contract import Role
from gjax.train import feeds, processes
from gjax.train.devices import data_mesh, replicated
processes.start(sys.argv[1], 2, int(sys.argv[2]))
mesh, dataset = data_mesh(), data.find(sys.argv[3])
pools = feeds.make_pools({'': Role(('source',))}, {'source': dataset}, 4, jax.random.key(0))
opened, pixels = [], folders.FolderRecords._pixels

def counted(self, file):
    opened.append(file)
    return pixels(self, file)

folders.FolderRecords._pixels = counted
seen = {}
for name in ('resident', 'streamed'):
    if name == 'resident':
        feed = feeds.Resident({'source': dataset}, pools, mesh)
        feed.load()
    else:
        feed = feeds.Streamed({'source': dataset}, pools, mesh, num_steps=3, max_steps=1, workers=0)
    call = jax.jit(lambda source, step: feed.begin(source, step, 1)(0, step)[''], out_shardings=replicated(mesh))
    with feed.chunks(0, [1] * 3) as sources:
        batches = [jax.device_get(call(source, np.int32(i))) for i, source in enumerate(sources)]
    seen[name] = {
        'opened': sorted(opened),
        'images': [batch['image'].mean(axis=(1, 2, 3)).tolist() for batch in batches],
        'index': [batch['index'].tolist() for batch in batches],
    }
    opened.clear()
print('SEEN ' + json.dumps(seen), flush=True)
"""


def test_each_process_decodes_its_share(tmp_path):
    for split, count in (('train', 12), ('test', 4)):
        for i in range(count):
            file = tmp_path / split / 'ab'[i % 2] / f'{i:02d}.png'
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((4, 4, 3), 20 * i, np.uint8)).save(file)
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        address = f'127.0.0.1:{probe.getsockname()[1]}'
    environment = os.environ | {'JAX_NUM_CPU_DEVICES': '1'}
    running = [
        subprocess.Popen(
            [sys.executable, '-c', _PROCESS, address, str(i), f'folder:{tmp_path}'],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for i in range(2)
    ]
    ends = [process.communicate(timeout=200) for process in running]
    assert [process.returncode for process in running] == [0, 0], ends
    first, second = (json.loads(out.split('SEEN ')[1]) for out, _ in ends)
    for name in ('resident', 'streamed'):
        assert first[name]['images'] == second[name]['images'] == first['resident']['images']
        assert first[name]['index'] == second[name]['index'] == first['resident']['index']
        assert not set(first[name]['opened']) & set(second[name]['opened'])
    everything = set(first['resident']['opened']) | set(second['resident']['opened'])
    assert len(everything) == 16
    assert len(first['resident']['opened']) == len(second['resident']['opened']) == 8
