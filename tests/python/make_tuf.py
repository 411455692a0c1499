"""Writes a repository with python-tuf, the reference implementation, for our device to read.

make_tuf.py FOLDER DEVICE: writes FOLDER/metadata, FOLDER/targets and FOLDER/director.json with the release
digits@1 for DEVICE. Root needs two of three keys, of the three kinds that TUF knows (Ed25519, ECDSA P-256,
RSA-PSS); the second root has another director. Everything else is Ed25519. Keys are new in every run, and
FOLDER must not hold a repository yet.
Needs tuf 7.0.0 and securesystemslib[crypto] 1.4.0.
"""

import hashlib
import json
import sys
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

EXPIRES = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=1)


def artifact(content):
    digest = hashlib.sha256(content).hexdigest()
    packed = {
        "encoding": "stored",
        "digest": digest,
        "size_bytes": len(content),
        "block_bytes": 65536,
        "blocks": [digest],
    }
    return {"digest": digest, "size_bytes": len(content), "packed": packed}


def error_test(good, bad):
    return {"good_ppm": good, "bad_ppm": bad, "one_wrong_in": 1000000}


def manifest():
    return {
        "format": 1,
        "release": "digits@1",
        "published_at": int(time.time() * 1000),
        "runtime": {"format": "onnx", "opsets": {"ai.onnx": 17}, "operators": ["ai.onnx.Gemm"]},
        "inputs": [{"name": "x", "datatype": "FP32", "shape": ["N", 4]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": ["N", 2]}],
        "model": artifact(b"a model"),
        "golden": {
            "artifact": artifact(b"golden"),
            "cases": 1,
            "tolerance": {"absolute": 0.0001, "relative": 0.001},
        },
        "budgets": {"latency_ms": 1000, "load_ms": 30000, "memory_mib": 1024},
        "probation": {
            "duration_secs": 600,
            "min_inferences": 50,
            "max_starts": 3,
            "failures": error_test(10000, 200000),
            "slow": error_test(50000, 500000),
        },
        "lineage": {},
    }


def listed(content):
    """The target of a manifest, with what the device compares."""
    target = TargetFile.from_data("digits/1.json", content, ["sha256"])
    model = json.loads(content)["model"]
    target.unrecognized_fields["custom"] = {
        "model": "digits",
        "version": 1,
        "release_counter": 1,
        "model_digest": model["digest"],
        "model_size_bytes": model["size_bytes"],
    }
    return target


def write(folder, name, role, signers):
    metadata = Metadata(role)
    for signer in signers:
        metadata.sign(signer, append=True)
    data = metadata.to_bytes()
    (folder / name).write_bytes(data)
    return MetaFile(role.version, len(data), {"sha256": hashlib.sha256(data).hexdigest()})


def director_keys(signer):
    key = signer.public_key
    return {"keys": {key.keyid: key.to_dict()}, "threshold": 1}


def write_director(path, device, signer, content):
    signed = {
        "_type": "director",
        "spec_version": "1.0.31",
        "device": device,
        "generation": 1,
        "expires_at": int((time.time() + 3600) * 1000),
        "assignments": [
            {
                "release": "digits@1",
                "manifest_digest": hashlib.sha256(content).hexdigest(),
                "manifest_size_bytes": len(content),
                "retry": False,
            }
        ],
    }
    signature = signer.sign(encode_canonical(signed).encode())
    path.write_text(json.dumps({"signed": signed, "signatures": [signature.to_dict()]}))


def main(folder, device):
    metadata, targets_dir = folder / "metadata", folder / "targets" / "digits"
    metadata.mkdir(parents=True)
    targets_dir.mkdir(parents=True)
    ed25519 = CryptoSigner.generate_ed25519
    roots = [ed25519(), CryptoSigner.generate_ecdsa(), CryptoSigner.generate_rsa()]
    roles = {name: ed25519() for name in ("targets", "snapshot", "timestamp")}
    old_director, director = ed25519(), ed25519()

    root = Root(expires=EXPIRES, consistent_snapshot=True)
    for signer in roots:
        root.add_key(signer.public_key, "root")
    root.roles["root"].threshold = 2
    for name, signer in roles.items():
        root.add_key(signer.public_key, name)
    root.unrecognized_fields["x-muster-director"] = director_keys(old_director)
    write(metadata, "1.root.json", root, roots[:2])
    root.version = 2
    root.unrecognized_fields["x-muster-director"] = director_keys(director)
    write(metadata, "2.root.json", root, roots[1:])

    content = json.dumps(manifest(), indent=1).encode()
    (targets_dir / "1.json").write_bytes(content)
    targets = Targets(version=5, expires=EXPIRES, targets={"digits/1.json": listed(content)})
    described = write(metadata, "5.targets.json", targets, [roles["targets"]])
    snapshot = Snapshot(version=6, expires=EXPIRES, meta={"targets.json": described})
    described = write(metadata, "6.snapshot.json", snapshot, [roles["snapshot"]])
    timestamp = Timestamp(version=7, expires=EXPIRES, snapshot_meta=described)
    write(metadata, "timestamp.json", timestamp, [roles["timestamp"]])
    write_director(folder / "director.json", device, director, content)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2])
