"""Reads a repository of ours with python-tuf, the reference implementation, without a network.

check_tuf.py FOLDER: FOLDER/metadata holds 1.root.json and what follows, FOLDER/targets the manifests. Walks the
whole way of a client from the first root, downloads every listed release and prints its path. Ends with 1 and a
reason where python-tuf refuses anything.
Needs tuf 7.0.0 and securesystemslib[crypto] 1.4.0.
"""

import sys
import tempfile
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import Updater
from tuf.ngclient.fetcher import FetcherInterface


class FolderFetcher(FetcherInterface):
    """Serves file:// addresses."""

    def _fetch(self, url):
        path = Path(url2pathname(urlparse(url).path))
        if not path.is_file():
            raise DownloadHTTPError(f"no {path}", 404)
        yield path.read_bytes()


def check(folder):
    with tempfile.TemporaryDirectory() as scratch:
        updater = Updater(
            metadata_dir=scratch,
            metadata_base_url=(folder / "metadata").as_uri() + "/",
            target_dir=scratch,
            target_base_url=(folder / "targets").as_uri() + "/",
            fetcher=FolderFetcher(),
            bootstrap=(folder / "metadata" / "1.root.json").read_bytes(),
        )
        updater.refresh()
        trusted = updater._trusted_set
        director = trusted.root.unrecognized_fields["x-muster-director"]
        if not 1 <= director["threshold"] <= len(director["keys"]):
            sys.exit("the root names no usable director keys")
        for path in sorted(trusted.targets.targets):
            info = updater.get_targetinfo(path)
            updater.download_target(info, str(Path(scratch) / "manifest"))
            print(path)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    check(Path(sys.argv[1]).resolve())
