"""Shared by all tests: one torch thread, no hub, and a cache of their own that has the user's samples in it."""

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory):
    from luthier.samples import cache_folder

    own = tmp_path_factory.mktemp("cache")
    for name in ("models", "data"):
        if (cache_folder() / name).is_dir():
            (own / name).symlink_to(cache_folder() / name, target_is_directory=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LUTHIER_CACHE", str(own))
        yield own
