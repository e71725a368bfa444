"""The second implementation of GLOW trains on what ours is trained on."""

import pytest

from gjax.train import config as configs


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore:torch.lu is deprecated:UserWarning')
def test_it_trains():
    pytest.importorskip('normflows', reason='the second implementation of GLOW')
    reference = configs.load_module(configs.experiments_dir() / 'flow_robustness/reference.py')
    for library_init, clip_norm in ((False, 20.0), (True, 0.0)):
        bits = []
        for epochs in (1, 4):
            changes = {'data.examples': 640, 'train.total_epochs': epochs, 'optimizer.clip_norm': clip_norm}
            config = configs.load('flow_robustness/digits.py:clean,glow', changes)
            config.net.update(depth=1, hidden=4)
            bits.append(reference.train(config, 0, library_init))
        assert 0 < bits[1] < bits[0] < 8  # 8 is the uniform density's
