"""The Docker engine, asked through the ``docker`` command: does it answer, has it an image, can it pull one. Always
bounded.

No engine, an engine without images, and a registry out of reach are three different things; each is told as what it is.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from typing import Final

PROBE_TIMEOUT_S: Final = 4.0
PULL_TIMEOUT_S: Final = 180.0
REFUSE_VARIABLE: Final = "CHAINBOOKS_NO_DOCKER"


def why_no_engine() -> str | None:
    """None when an engine answers; otherwise why there is none."""
    if os.environ.get(REFUSE_VARIABLE):
        return f"{REFUSE_VARIABLE} is set"
    try:
        done = _docker("version", "--format", "{{.Server.Version}}", timeout_s=PROBE_TIMEOUT_S)
    except FileNotFoundError:
        return "there is no docker command"
    except subprocess.TimeoutExpired:
        return f"the Docker engine did not answer within {PROBE_TIMEOUT_S:.0f} s"
    except OSError as exc:
        return f"the docker command does not run: {exc.strerror}"
    return None if done.returncode == 0 and done.stdout.strip() else "no Docker engine answers"


def has_image(image: str) -> bool:
    """Whether the engine has the image already."""
    try:
        return _docker("image", "inspect", "--format", "{{.Id}}", image, timeout_s=PROBE_TIMEOUT_S).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def why_no_images(images: Iterable[str], *, pull_timeout_s: float = PULL_TIMEOUT_S) -> str | None:
    """None when the engine has all of the images, after pulling those that it lacked; otherwise what failed."""
    for image in images:
        if has_image(image):
            continue
        try:
            done = _docker("pull", "--quiet", image, timeout_s=pull_timeout_s)
        except subprocess.TimeoutExpired:
            return f"image {image} could not be pulled within {pull_timeout_s:.0f} s"
        except OSError as exc:
            return f"the docker command does not run: {exc.strerror}"
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            return f"image {image} is not here and could not be pulled: {last[:200]}"
    return None


def _docker(*arguments: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, timeout=timeout_s, check=False, stdin=subprocess.DEVNULL
    )
