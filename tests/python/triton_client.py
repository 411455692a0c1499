"""Uses a device with the stock client of the Open Inference Protocol, as an application would.

triton_client.py HOST:PORT MODEL IMAGES: IMAGES holds records of 64 pixel bytes and a label. Asks for health and
metadata, then for inferences with JSON and with binary tensors in both directions, and compares. Ends with 1 and a
reason where anything differs.
"""

import sys
from pathlib import Path

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

RECORD_BYTES = 65
COMPARED = 20
LEAST_ACCURACY = 0.95


def main(address, model, images_path):
    pixels, labels = read_images(Path(images_path))
    client = triton.InferenceServerClient(address)
    check_health(client, model)
    check_metadata(client, model)
    check_encodings(client, model, pixels[:COMPARED])
    check_accuracy(client, model, pixels, labels)
    check_refusals(client, model, pixels[0])
    client.close()


def read_images(path):
    records = np.frombuffer(path.read_bytes(), dtype=np.uint8).reshape(-1, RECORD_BYTES)
    return records[:, :-1].astype(np.float32).reshape(-1, 1, 1, 8, 8), records[:, -1]


def check_health(client, model):
    assert client.is_server_live(), "the server is not live"
    assert client.is_server_ready(), "the server is not ready"
    assert client.is_model_ready(model), f"{model} is not ready"
    print("health: live and ready")


def check_metadata(client, model):
    server = client.get_server_metadata()
    assert "binary_tensor_data" in server["extensions"], server
    metadata = client.get_model_metadata(model)
    assert metadata["name"] == model and metadata["versions"], metadata
    assert metadata["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [1, 1, 8, 8]}], metadata
    assert metadata["outputs"] == [{"name": "probabilities", "datatype": "FP32", "shape": [1, 10]}], metadata
    print(f"metadata: {server['name']} {server['version']}, versions {metadata['versions']}")


def check_encodings(client, model, images):
    """All four ways to send and receive give the same numbers."""
    for image in images:
        answers = [
            infer(client, model, image, binary_input, binary_output)
            for binary_input in (False, True)
            for binary_output in (False, True)
        ]
        for other in answers[1:]:
            np.testing.assert_allclose(other, answers[0], rtol=1e-6)
        by_default = client.infer(model, [tensor(image, True)]).as_numpy("probabilities")
        np.testing.assert_allclose(by_default, answers[0], rtol=1e-6)
    print(f"JSON and binary tensors agree on {len(images)} images")


def check_accuracy(client, model, images, labels):
    answers = [int(infer(client, model, image, True, True).argmax()) for image in images]
    accuracy = float(np.mean(np.array(answers) == labels))
    assert accuracy >= LEAST_ACCURACY, f"accuracy {accuracy:.3f}"
    print(f"accuracy {accuracy:.3f} on {len(images)} images")


def check_refusals(client, model, image):
    """What is wrong is answered with a reason that the client can read."""
    wrong = triton.InferInput("image", [1, 1, 7, 7], "FP32")
    wrong.set_data_from_numpy(np.ascontiguousarray(image[:, :, :7, :7]))
    for name, inputs in [(model, [wrong]), ("nobody", [tensor(image, True)])]:
        try:
            client.infer(name, inputs)
        except InferenceServerException as refusal:
            assert refusal.message(), "a refusal without a reason"
            print(f"refused: {refusal.message()}")
        else:
            sys.exit(f"a wrong request to {name} was answered")


def infer(client, model, image, binary_input, binary_output):
    wanted = [triton.InferRequestedOutput("probabilities", binary_data=binary_output)]
    return client.infer(model, [tensor(image, binary_input)], outputs=wanted).as_numpy("probabilities")


def tensor(image, binary):
    result = triton.InferInput("image", list(image.shape), "FP32")
    result.set_data_from_numpy(image, binary_data=binary)
    return result


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
