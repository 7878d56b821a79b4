# SPDX-License-Identifier: MIT
"""What an attack does, how long it takes, and how much memory: each in a fork of a process that has decoded an image.

python tests/attacks/measure.py FOLDER    makes all files of `cases.py` in FOLDER; prints what came of each, as JSON
"""

import json
import os
import resource
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
MOST_SECONDS = 100


def measured(work, *arguments) -> dict:
    """What `work` returns or raises, in a fork. seconds: of processors; mib: beyond what there was."""
    reading, writing = os.pipe()
    if not (child := os.fork()):
        os.close(reading)
        signal.alarm(MOST_SECONDS)  # it ends then, whatever it does
        before, start = _resident(), time.process_time()
        try:
            found = {"error": "", "words": str(work(*arguments))[:200]}
        except BaseException as exc:  # noqa: BLE001 - whatever it is, it is told
            from smalti.errors import SmaltiError

            ours = isinstance(exc, SmaltiError)
            found = {"error": type(exc).__name__ if ours else f"FOREIGN {type(exc).__name__}", "words": str(exc)[:5000]}
        found["seconds"] = time.process_time() - start
        found["mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
        with os.fdopen(writing, "w") as out:
            json.dump(found, out)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as told:
        text = told.read()
    _, status = os.waitpid(child, 0)
    return json.loads(text) if text else {"error": f"FOREIGN status {status}", "words": "", "seconds": 0, "mib": 0}


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / (1 << 20)


def warm() -> None:
    """Decode an image, so that the model is there; not by latents, for the engine's threads do not come along."""
    import smalti
    from smalti.demo.samples import draw_digits

    image = draw_digits(1)[0]
    smalti.decode(smalti.encode(image, max_error=0))


def main() -> None:
    from attacks.cases import ATTACKS

    warm()
    folder, only = Path(sys.argv[1]), sys.argv[2:]
    results = {}
    for attack in ATTACKS:
        if not only or attack.name in only:
            place = folder / attack.name
            place.mkdir()
            path = attack.make(place)
            results[attack.name] = measured(attack.work, path)
    json.dump(results, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
