"""Whether a run directory belongs to a config."""

import json
from pathlib import Path

from gjax.train import config as configs
from gjax.train.errors import RunError


def check_same_config(config, workdir: Path) -> None:
    """Raises RunError, naming the first key that differs, if the workdir holds a run of another config."""
    file = Path(workdir) / 'config.json'
    if not file.exists():
        return
    old, new = (configs.flatten(json.loads(text)) for text in (file.read_text(), configs.to_json(config)))
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            raise RunError(
                f'{workdir} holds a run with config.{key}={old.get(key)!r}, not {new.get(key)!r}; '
                'use another --workdir, or the same config to resume'
            )
