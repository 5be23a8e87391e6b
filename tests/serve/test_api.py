"""The answers of /segment and the other addresses, without a server and a network."""

import asyncio
import base64
import io
import json
import logging
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from asgi import ask, asked
from PIL import Image

from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.inference.segmentation import Segmentation

prometheus_client = pytest.importorskip("prometheus_client", reason="pip install '.[serve]'")
pytest.importorskip("fastapi_offline", reason="pip install '.[serve]'")

from bisenetv1_plugin.serve import answers, api  # noqa: E402
from bisenetv1_plugin.serve.guard import Guard, Refusal, names_of  # noqa: E402
from bisenetv1_plugin.serve.request_log import RequestLog  # noqa: E402

NAMES = ["sky", "road", "car"]
COLORS = np.array([[1, 2, 3], [40, 50, 60], [7, 8, 9]], "uint8")
HOST = (b"host", b"127.0.0.1:8000")
JSON = (b"accept", b"application/json")


class Thirds:
    """Segments pictures into three columns, the last with a low confidence; refuses pictures of one pixel's height."""

    name, classes, colors = "openvino fp32", NAMES, COLORS
    has_no_probabilities = False

    def __init__(self):
        self.may_continue = threading.Event()
        self.may_continue.set()
        self.together = []

    def stream(self, arrays, order, confidence, many):
        if confidence and self.has_no_probabilities:
            raise InputError("this export has no probabilities.")
        return self._each(arrays, order, confidence)

    def _each(self, arrays, order, confidence):
        self.together.append(0)
        for pixels in arrays:
            assert order == "BGR" and pixels.dtype == np.uint8
            self.may_continue.wait(20)
            self.together[-1] += 1
            height, width = pixels.shape[:2]
            mask = np.repeat((np.arange(width) * 3 // width)[np.newaxis], height, 0).astype("uint8")
            sure = np.where(mask == 2, 0.5, 0.9).astype("float32") if confidence else None
            if height == 1:
                yield InputError("the picture does not fit: it is flat.")
            elif height == 2:
                raise KeyError("a fault of ours")
            else:
                yield Segmentation(mask, NAMES, COLORS, pixels[..., ::-1], None, sure)


def encoded(size=(48, 32), format="PNG"):
    content = io.BytesIO()
    Image.fromarray(np.arange(size[0] * size[1] * 3, dtype="uint8").reshape(size[1], size[0], 3)).save(content, format)
    return content.getvalue()


def served(token=None, **limits):
    """A service with its guard and log: `app`, its `segmenter`, `service`, `post` and `get`."""
    segmenter, registry = Thirds(), prometheus_client.CollectorRegistry()
    limits = api.Limits(**{"megabytes": 1, "megapixels": 1, "seconds": 20, "queue": 4, **limits})
    service = api.Service(segmenter, limits, 1, registry)
    bodies = {"/segment": service.uploads}.get
    guard = Guard(service.app, names_of("127.0.0.1"), [], bodies, token, api.OPEN_PATHS, (500, "It failed."))
    app = RequestLog(guard, api.PATHS.__contains__, registry)

    def post(body=b"", headers=(), query=b"", path="/segment"):
        return asked(app, "POST", path, [HOST, *headers], body, query)

    def get(path, headers=()):
        return asked(app, "GET", path, [HOST, *headers])

    return SimpleNamespace(app=app, segmenter=segmenter, service=service, post=post, get=get)


@pytest.fixture(scope="module")
def client():
    return served()


def mask_of(content):
    return np.asarray(Image.open(io.BytesIO(content)))


EXPECTED = np.repeat(np.repeat(np.arange(3, dtype="uint8"), 16)[np.newaxis], 32, 0)


def test_json(client):
    status, headers, text = client.post(encoded(), [JSON], b"regions=true&confidence=true&min_area=1")
    answer = json.loads(text)
    assert status == 200 and headers[b"content-type"] == b"application/json"
    assert (answer["width"], answer["height"]) == (48, 32)
    assert np.array_equal(mask_of(base64.b64decode(answer["mask"])), EXPECTED)
    assert answer["shares"] == pytest.approx({"sky": 1 / 3, "road": 1 / 3, "car": 1 / 3})
    assert answer["confidence"] == pytest.approx((0.9 + 0.9 + 0.5) / 3)
    regions = {region["name"]: region for region in answer["regions"]}
    assert regions["road"]["box"] == [16, 0, 16, 32] and regions["road"]["area"] == 512
    assert sorted(regions["car"]["polygons"][0][0]) == [[32, 0], [32, 32], [48, 0], [48, 32]]
    assert regions["car"]["confidence"] == pytest.approx(0.5)
    assert set(answer["milliseconds"]) == {"waiting", "computing"}
    plain = json.loads(client.post(encoded(), [JSON])[2])
    assert set(plain) == {"width", "height", "mask", "shares", "milliseconds"}


def test_unknown_pixels(client):
    answer = json.loads(client.post(encoded(), [JSON], b"unknown_below=0.6")[2])
    mask = mask_of(base64.b64decode(answer["mask"]))
    assert np.array_equal(mask, np.where(EXPECTED == 2, 255, EXPECTED)) and answer["unknown"] == pytest.approx(1 / 3)


def test_an_export_without_probabilities():
    """Only requests for probabilities are refused."""
    client = served()
    client.segmenter.has_no_probabilities = True
    status, _, text = client.post(encoded(), [JSON], b"confidence=true")
    assert (status, text) == (422, "this export has no probabilities.")
    assert client.post(encoded())[0] == 200


def png(result, **options):
    return answers.encode(result, answers.PNG, answers.Options(**options), {})


def test_png():
    result = Segmentation(EXPECTED, NAMES, COLORS, np.zeros((32, 48, 3), "uint8"))
    gray, colored = (Image.open(io.BytesIO(png(result, color=color))) for color in (False, True))
    assert gray.mode == "L" and colored.mode == "P"
    assert np.array_equal(np.asarray(gray), EXPECTED) and np.array_equal(np.asarray(colored), EXPECTED)
    assert np.array_equal(np.asarray(colored.convert("RGB")), COLORS[EXPECTED])


def test_too_many_regions():
    noise = np.random.default_rng(0).integers(0, 3, (200, 200)).astype("uint8")
    result = Segmentation(noise, NAMES, COLORS, np.zeros((200, 200, 3), "uint8"))
    with pytest.raises(InputError, match="larger min_area"):
        answers.encode(result, answers.JSON, answers.Options(regions=True), {})


def test_too_long_outlines():
    """Noise in one piece has outlines that would take minutes."""
    noise = np.random.default_rng(0).integers(0, 2, (600, 600)).astype("uint8")
    result = Segmentation(noise, NAMES, COLORS, np.zeros((600, 600, 3), "uint8"))
    with pytest.raises(InputError, match="too long"):
        answers.encode(result, answers.JSON, answers.Options(regions=True, min_area=1000), {})


@pytest.mark.parametrize(
    "accept, kind",
    [
        ("*/*", "image/png"),
        ("application/json", "application/json"),
        ("image/png;q=0.5, application/json", "application/json"),
        ("application/json;q=0.5, image/*", "image/png"),
        ("text/html, */*;q=0.1", "image/png"),
        ("application/json, image/png;q=0", "application/json"),
        ("Application/JSON; charset=utf-8; q=0.9", "application/json"),
    ],
)
def test_accept(accept, kind):
    assert answers.media_type(accept) == kind


@pytest.mark.parametrize("accept", ["text/html", "image/png;q=0", "image/webp", ",;,"])
def test_accept_of_other_types(accept, client):
    with pytest.raises(Refusal, match="image/png"):
        answers.media_type(accept)
    assert client.post(encoded(), [(b"accept", accept.encode())])[0] == 406


FIELD = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + b"a" * (1 << 13) + b"\r\n--x--\r\n"


def form(content, name="picture", filename="a.png"):
    head = f'--x\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n\r\n'
    return head.encode() + content + b"\r\n--x--\r\n"


MULTIPART = (b"content-type", b"multipart/form-data; boundary=x")


def test_form(client, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the form was written to a file")

    monkeypatch.setattr("tempfile.SpooledTemporaryFile.rollover", refuse)
    content = encoded((500, 500), "BMP")
    status, _, text = client.post(form(content, "file", "../../x.bmp"), [MULTIPART, JSON])
    assert status == 200 and json.loads(text)["shares"] == json.loads(client.post(content, [JSON])[2])["shares"]


@pytest.mark.parametrize(
    "body, headers, status, why",
    [
        (b"", [], 400, "no picture"),
        (b"x", [], 422, "not an image that this server accepts"),
        (b"%PDF-1.4", [], 422, "not an image that this server accepts"),
        (encoded()[:-30], [], 422, "truncated"),
        (encoded((1100, 1000)), [], 422, "1100 x 1000 pixels, and this server takes 1 million"),
        (encoded(format="TIFF"), [], 422, "PNG, JPEG, WebP or BMP"),
        (encoded((48, 1)), [], 422, "it is flat"),
        (b"x" * ((1 << 20) + 1), [], 413, "1 MB"),
        (b"--x\r\n", [MULTIPART], 400, "form"),
        (b"--x--\r\n", [MULTIPART], 400, "no picture"),
        (b"a", [(b"content-type", b"multipart/form-data")], 400, "form"),
        (form(b"", "a" * 9) * 2, [MULTIPART], 400, ""),
        # Decoding a megabyte of this charset takes minutes.
        (FIELD, [(b"content-type", MULTIPART[1] + b"; charset=punycode")], 400, "The form cannot be read"),
    ],
)
def test_refused_bodies(client, body, headers, status, why):
    got, sent, text = client.post(body, headers)
    assert (got, sent[b"content-type"]) == (status, b"text/plain; charset=utf-8") and why in text
    assert client.post(encoded())[0] == 200


@pytest.mark.parametrize(
    "query, why",
    [
        (b"region=true", "region"),
        (b"min_area=0&regions=true", "min_area"),
        (b"min_area=99999999999999999999", "min_area"),
        (b"tolerance=nan", "tolerance"),
        (b"tolerance=-1", "tolerance"),
        (b"unknown_below=1.5", "unknown_below"),
        (b"color=purple", "color"),
    ],
)
def test_invalid_options(client, query, why):
    status, _, text = client.post(encoded(), [JSON], query)
    assert status == 422 and why in text and text.endswith("See /docs.")


def test_json_options_without_accept(client):
    assert "Accept: application/json" in client.post(encoded(), query=b"regions=true")[2]


def test_internal_error(client, caplog):
    with caplog.at_level(logging.ERROR):
        assert client.post(encoded((48, 2)))[::2] == (500, "It failed.")
    assert "a fault of ours" in caplog.text
    assert client.post(encoded())[0] == 200 and client.get("/health")[0] == 200


def basic(text):
    return b"Basic " + base64.b64encode(text)


@pytest.fixture(scope="module")
def closed():
    return served("secret")


class TestToken:
    @pytest.mark.parametrize(
        "value, status",
        [
            (None, 401),
            (b"Bearer secret", 200),
            (b"bearer  secret ", 200),
            (basic(b"anybody:secret"), 200),
            (b"Bearer Secret", 401),
            (b"Bearer ", 401),
            (b"secret", 401),
            (basic(b"secret"), 401),
            (basic(b"secret:"), 401),
            (b"Basic \xff", 401),
            (b"Digest secret", 401),
        ],
    )
    def test_authorization(self, closed, value, status):
        headers = [(b"authorization", value)] if value is not None else []
        got, sent, _ = closed.post(encoded(), headers)
        assert got == status and (status == 200 or b"www-authenticate" in sent)
        for path in ("/model", "/metrics", "/docs", "/openapi.json", "/none", "/static-offline-docs/swagger-ui.css"):
            assert (closed.get(path, headers)[0] == 401) == (status == 401), path

    def test_two_headers(self, closed):
        both = [(b"authorization", b"Bearer x"), (b"authorization", b"Bearer secret")]
        assert closed.post(encoded(), both)[0] == 401

    def test_open_paths(self, closed):
        assert [closed.get(path)[0] for path in api.OPEN_PATHS] == [200, 200]


def test_other_sites(client):
    assert asked(client.app, "GET", "/model", [(b"host", b"evil.example")])[0] == 421
    assert client.post(encoded(), [(b"origin", b"http://evil.example")])[0] == 403


def run(*calls):
    """Send requests at the same time; returns (status, headers) of each answer."""

    async def one(app, body, headers, query=b""):
        sent, parts = [], [body]

        async def receive():
            return {"type": "http.request", "body": parts.pop(), "more_body": False}

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/segment", "query_string": query, "raw_path": b"/segment"}
        headers = [HOST, (b"content-length", str(len(body)).encode()), *headers]
        scope.update(scheme="http", root_path="", http_version="1.1", headers=headers, server=("127.0.0.1", 8000))
        await app(scope, receive, send)
        return sent[0]["status"], dict(sent[0]["headers"])

    async def gathered():
        return await asyncio.gather(*(one(*call) for call in calls))

    return asyncio.run(gathered())


class TestQueue:
    def test_full_queue(self):
        """Further requests get a 503; waiting pictures go through the network together."""
        client = served(queue=4)
        client.segmenter.may_continue.clear()
        threading.Timer(1, client.segmenter.may_continue.set).start()
        found = run(*[(client.app, encoded(), [])] * 10)
        assert sorted(status for status, _ in found) == [200] * 4 + [503] * 6
        assert {headers.get(b"retry-after") for status, headers in found if status == 503} == {b"1"}
        assert max(client.segmenter.together) > 1 and sum(client.segmenter.together) == 4
        assert client.post(encoded())[0] == 200

    def test_large_pictures_and_confidence_run_alone(self, monkeypatch):
        monkeypatch.setattr("bisenetv1_plugin.serve.worker._MAX_SHARED_PIXELS", 1600)
        client = served(queue=8)
        client.segmenter.may_continue.clear()
        threading.Timer(1, client.segmenter.may_continue.set).start()
        sure = (client.app, encoded(), [JSON], b"confidence=true")
        found = run(*[sure] * 2, *[(client.app, encoded((48, 40)), [])] * 2)
        assert [status for status, _ in found] == [200] * 4 and client.segmenter.together == [1] * 4

    def test_timeout(self):
        client = served(seconds=1, queue=2)
        client.segmenter.may_continue.clear()
        found = run((client.app, encoded(), []), (client.app, encoded(), []))
        assert [(status, headers[b"retry-after"]) for status, headers in found] == [(503, b"1")] * 2
        client.segmenter.may_continue.set()
        assert client.post(encoded())[0] == 200 and client.service.uploads.in_progress == 0

    def test_ready(self):
        client = served(queue=1)
        with client.service.uploads.slot(1):
            assert client.get("/ready")[0] == 503 and client.get("/health")[0] == 200
        assert client.get("/ready")[0] == 200


def test_model(client):
    model = json.loads(client.get("/model")[2])
    assert (model["runtime"], model["precision"], model["device"]) == ("openvino", "fp32", "cpu")
    assert model["classes"][1] == {"number": 1, "name": "road", "color": [40, 50, 60]}
    assert model["limits"] == {"megabytes": 1, "megapixels": 1, "seconds": 20, "queue": 4}


def test_metrics_and_log(caplog):
    client = served()
    caplog.set_level(logging.INFO, "bisenetv1_plugin.serve")
    client.post(encoded())
    client.post(b"x")
    client.get("/gradio_api/file=/secret\n")
    for number in range(3):  # any path: one metric each would fill the memory
        client.get(f"/static-offline-docs/secret{number}")
    text = client.get("/metrics")[2]
    for figure in (
        'bisenetv1_requests_total{path="/segment",status="200"} 1.0',
        'bisenetv1_requests_total{path="/segment",status="422"} 1.0',
        'bisenetv1_requests_total{path="other",status="404"} 4.0',
        "bisenetv1_computing_seconds_count 1.0",
        "bisenetv1_pictures 0.0",
    ):
        assert figure in text.splitlines()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 7 and "POST /segment 200" in lines[0] and "48 x 32 pixels" in lines[0]
    assert "secret" not in caplog.text and "GET other 404" in lines[2]


def test_docs_use_no_cdn(client):
    page = client.get("/docs")[2]
    assert "swagger-ui" in page and "http" not in page.replace("https://fastapi.tiangolo.com/img/favicon.png", "")
    described = json.loads(client.get("/openapi.json")[2])["paths"]
    assert set(described) == {"/segment", "/model", "/health", "/ready", "/metrics"}
    segment = described["/segment"]["post"]
    assert {"image/jpeg", "multipart/form-data"} <= set(segment["requestBody"]["content"])
    assert set(segment["responses"]["200"]["content"]) == {"image/png", "application/json"}
    assert client.get("/static-offline-docs/swagger-ui.css")[0] == 200
    assert ask(client.app, "GET", "/static-offline-docs/../../setup.py", [HOST])[0] == 404
