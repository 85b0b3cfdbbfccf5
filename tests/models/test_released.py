"""Published weights by name: from a local copy, from a server, and every way in which that can go wrong."""

import functools
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ssl_colorize.encoder import load_encoder
from ssl_colorize.errors import UserError
from ssl_colorize.models import create_model, load_pretrained
from ssl_colorize.models.eccv16 import ECCV16, released_keys
from ssl_colorize.models.released import RELEASES, Release, is_release, released_file
from ssl_colorize.models.timm_factory import local_copy, make_timm, where_to_put

NAME = "eccv16-release"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file with the published keys and random weights, named by its hash."""
    torch.manual_seed(0)
    model = create_model("eccv16")
    state = {old: model.state_dict()[new] for old, new in released_keys().items()}
    folder = tmp_path_factory.mktemp("published")
    torch.save(state | {"model_out.weight": torch.rand(2, 313, 1, 1)}, folder / "weights.pth")
    digest = hashlib.sha256((folder / "weights.pth").read_bytes()).hexdigest()
    path = (folder / "weights.pth").rename(folder / f"weights_v2-{digest[:8]}.pth")
    yield path
    # Some 130 MB, which pytest would keep for three runs.
    path.unlink()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of PyTorch's, where weights would be."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture
def asked(published: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A server of the published file on this machine, to which the release's address points; what was asked of it."""
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *parts: object) -> None:
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(published.parent))
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        point_to(f"http://127.0.0.1:{server.server_port}/{published.name}", monkeypatch)
        yield asked
        server.shutdown()


def point_to(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RELEASES, NAME, Release(url=url, home=""))


def test_the_address_is_the_authors_and_names_its_hash() -> None:
    release = RELEASES[NAME]
    assert release.url.startswith("https://colorizers.s3.us-east-2.amazonaws.com/")
    assert (release.name, release.digest) == ("colorization_release_v2-9b330a0b.pth", "9b330a0b")


def test_it_is_fetched_once_and_kept(published: Path, hub: Path, asked: list[str]) -> None:
    path = released_file(NAME)
    assert path == hub / published.name and path.read_bytes() == published.read_bytes()
    assert released_file(NAME) == path
    assert asked == [f"/{published.name}"]
    assert [each.name for each in hub.iterdir()] == [published.name]


def test_every_door_takes_the_name_and_a_local_copy(
    published: Path, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import timm

    # Nobody listens there.
    point_to(f"http://127.0.0.1:9/{published.name}", monkeypatch)
    hub.mkdir(parents=True)
    (hub / published.name).hardlink_to(published)
    pretrained = load_pretrained(NAME)
    assert isinstance(pretrained.model, ECCV16) and pretrained.source == NAME and pretrained.temperature == 1.0
    encoder = load_encoder(NAME)
    assert encoder.name == NAME and encoder.layers[-1] == "conv7"
    by_timm = timm.create_model("colorize_eccv16", pretrained=True).eval()
    photo = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        assert torch.allclose(by_timm.forward_features(photo), encoder(photo, ["conv7"])["conv7"], rtol=1e-4, atol=1e-4)


def test_nothing_is_fetched_that_was_not_asked_for(
    hub: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import timm

    timm.create_model("colorize_eccv16")
    timm.create_model("colorize_eccv16_half")
    with pytest.raises(UserError, match="No checkpoint at eccv16"):
        load_pretrained("eccv16")
    assert asked == [] and not hub.exists()


def test_without_internet_a_line_says_what_goes_where(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "http://127.0.0.1:9/weights-12345678.pth"
    point_to(url, monkeypatch)
    for load in (load_pretrained, load_encoder):
        with pytest.raises(UserError) as error:
            load(NAME)
        assert url in str(error.value) and str(hub) in str(error.value) and "\n" not in str(error.value)
    assert list(hub.iterdir()) == []


def test_a_file_with_another_hash_is_not_kept(
    published: Path, hub: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = published.with_name("other-00000000.pth")
    other.write_bytes(b"an error page of some proxy")
    point_to(RELEASES[NAME].url.replace(published.name, other.name), monkeypatch)
    with pytest.raises(UserError, match="invalid hash") as error:
        released_file(NAME)
    assert "\n" not in str(error.value) and len(asked) == 1
    assert list(hub.iterdir()) == []


def test_a_download_that_breaks_off_is_not_kept(published: Path, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            self.wfile.write(b"only the beginning")

        def log_message(self, format: str, *parts: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        point_to(f"http://127.0.0.1:{server.server_port}/{published.name}", monkeypatch)
        with pytest.raises(UserError, match="could not be fetched"):
            released_file(NAME)
        server.shutdown()
    assert list(hub.iterdir()) == []


def test_a_damaged_copy_is_named_and_left_to_its_owner(published: Path, hub: Path, asked: list[str]) -> None:
    hub.mkdir(parents=True)
    (hub / published.name).write_bytes(published.read_bytes()[:1000])
    with pytest.raises(UserError, match="is not the published file") as error:
        released_file(NAME)
    assert str(hub / published.name) in str(error.value) and "delete it" in str(error.value)
    assert asked == []


def test_a_folder_of_that_name_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_release(NAME)
    monkeypatch.chdir(tmp_path)
    Path(NAME).mkdir()
    assert not is_release(NAME)
    with pytest.raises(UserError, match=r"holds no model\.safetensors"):
        load_pretrained(NAME)


# ---- timm's own weights ----------------------------------------------------------------------------------------------


def test_timms_weights_come_from_a_copy(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import save_file

    assert local_copy("test_resnet") == {}
    name = "test_resnet.r160_in1k.safetensors"
    assert name in where_to_put("test_resnet")
    assert "https://huggingface.co/timm/test_resnet" in where_to_put("test_resnet")
    assert where_to_put("colorize_alexnet") == ""
    torch.manual_seed(0)
    wanted = make_timm("test_resnet").state_dict()
    hub.mkdir(parents=True)
    save_file(wanted, hub / name)
    found = make_timm("test_resnet", pretrained=True).state_dict()
    assert all(torch.equal(found[key], value) for key, value in wanted.items())


def test_timms_weights_that_cannot_be_had_are_a_line_with_their_address(
    hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import timm

    def unreachable(*arguments: object, **options: object) -> None:
        raise OSError("no route\nmore words")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(UserError, match=r"no route Put https://\S+/model\.safetensors at \S+\.safetensors\.") as error:
        make_timm("test_resnet", pretrained=True)
    assert "\n" not in str(error.value)
