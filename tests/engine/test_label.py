"""Pictures that are there already, labelled by the real engine on the embedded model."""

import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ovamgen.config import build_config
from ovamgen.diffusion.pipeline import load_pipeline
from ovamgen.diffusion.synthesis import Synthesiser
from ovamgen.errors import ConfigError, OvamgenError, PlanError
from ovamgen.generation import generate
from ovamgen.integrity.replay import replay
from ovamgen.integrity.verify import verify
from ovamgen.run.inputs import plan_for
from ovamgen.shards.finished_shard import read_members
from ovamgen.shards.shard_record import read_records
from ovamgen.storage.pictures import open_picture_source
from ovamgen.storage.store import open_store
from tests.command_line import ovamgen
from tests.runs import digests


@pytest.fixture(scope="module")
def photos(repository, tmp_path_factory):
    """Six pictures: two JPEGs of the model's size, others of other sizes, kinds and states."""
    folder = tmp_path_factory.mktemp("photos")
    source = repository / "ovamgen" / "mini" / "voc" / "JPEGImages"
    names = sorted(os.listdir(source))
    for name in names[:2]:
        (folder / name).write_bytes((source / name).read_bytes())
    picture = Image.open(source / names[2])
    (folder / "deeper").mkdir()
    picture.resize((200, 150)).save(folder / "deeper" / "wide.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    picture.resize((96, 64)).save(folder / "turned.jpg", exif=turned)
    picture.convert("L").save(folder / "grey.JPG")
    (folder / "damaged.jpg").write_bytes((source / names[0]).read_bytes()[:900])
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def table(photos, tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "photos.csv"
    rows = [f"{name},a photo,bird" for name in open_picture_source(str(photos)).sizes]
    path.write_text("\n".join(["picture,caption,classes", *rows]) + "\n")
    return path


def config_of(pictures, out, **sections):
    base = {
        "plan": {"shard_size": 4, "batch_size": 2},
        "model": {"id": "mini"},
        "attribution": {"probe": [101]},
        "label": {"pictures": str(pictures)},
        "runtime": {"runner": "local"},
        "out": str(out),
    }
    return build_config(base, sections)


@pytest.fixture(scope="module")
def labelled(photos, table, tmp_path_factory):
    config = config_of(
        photos, tmp_path_factory.mktemp("labelled") / "out", plan={"captions": str(table)}
    )
    return config, generate(config)


def samples_of(out):
    store = open_store(str(out))
    return {
        row["picture"]: (row, members.get(row["key"]))
        for record in read_records(store).values()
        for members in [dict(read_members(store, record))]
        for row in rows_of(out, record.shard_index)
    }


def rows_of(out, index):
    import pyarrow.parquet as pq

    return pq.read_table(f"{out}/metadata/{index:06d}.parquet").drop(["previews"]).to_pylist()


def test_pictures_become_a_corpus_and_the_damaged_one_is_recorded(labelled, photos):
    config, outcome = labelled
    assert (outcome.summary.samples, outcome.summary.failed) == (5, 1)
    assert verify(config.out).findings == ()
    found = samples_of(config.out)
    row, _ = found["damaged.jpg"]
    assert row["status"] == "failed"
    assert "damaged.jpg cannot be read as a picture" in row["reason"]
    # the first is of the model's own size: its bytes are the file's, which nobody drew
    name = min(n for n in found if n.startswith("val"))
    assert found[name][1]["jpg"] == (photos / name).read_bytes()
    row, members = found["deeper/wide.png"]
    assert (row["picture_height"], row["picture_width"]) == (150, 200)
    assert (row["height"], row["width"]) == (128, 168)
    made = Image.open(io.BytesIO(members["jpg"]))
    assert made.size == (168, 128)
    assert b"trainedAlgorithmicMedia" not in members["jpg"]
    mask = np.array(Image.open(io.BytesIO(members["mask.png"])))
    assert mask.shape == (128, 168)
    assert set(np.unique(mask)) == {0, 3}
    # EXIF says that it stands on its side
    row, _ = found["turned.jpg"]
    assert (row["picture_height"], row["picture_width"]) == (96, 64)
    assert (row["height"], row["width"]) == (192, 128)


def test_a_tar_of_them_gives_the_same_bytes_and_so_does_going_on(labelled, photos, tmp_path):
    config, _ = labelled
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        for name in sorted(open_picture_source(str(photos)).sizes, reverse=True):
            tar.add(photos / name, name)
    other = config_of(tmp_path / "photos.tar", tmp_path / "out", plan=config.plan.model_dump())
    generate(other)
    same = digests(config.out)
    made = digests(other.out)
    shards = [name for name in same if name.endswith((".tar", ".parquet"))]
    assert len(shards) == 5
    assert all(made[name] == same[name] for name in shards)
    (tmp_path / "out" / "manifests" / "000000.json").unlink()
    generate(other)
    assert digests(other.out) == made


def test_only_what_the_user_names_is_read_again(labelled):
    config, _ = labelled
    key = next(row["key"] for row in rows_of(config.out, 0) if row["status"] == "ok")
    with pytest.raises(ConfigError, match=r"name them with --set label.pictures="):
        replay(config.out, key)
    named = replay(config.out, key, overrides=({"label": {"pictures": config.label.pictures}},))
    assert named.members_equal


def test_other_pictures_are_another_run(labelled, photos, tmp_path):
    config, _ = labelled
    (tmp_path / "one.png").write_bytes((photos / "deeper" / "wide.png").read_bytes())
    other = config_of(tmp_path, config.out)
    with pytest.raises(ConfigError, match=r"another configuration .*inputs.pictures"):
        generate(other)


def test_a_probe_is_the_unet_on_latents_noised_by_hand(tmp_path):
    """Queries of the unconditional half against a forward pass that is written out."""
    loaded = load_pipeline(build_config({"model": {"id": "mini"}}).model)
    config = build_config({"model": {"id": "mini"}})
    synthesiser = Synthesiser(loaded, config.synthesis)
    pipe, latents = loaded.pipe, torch.randn(2, *synthesiser.latent_shape)
    seen, noise = [], []

    class Sink:
        def update(self, layer, queries, size):
            if layer == 0:
                seen.append(queries.clone())

    def before(module, args, kwargs):
        noise.append(args[0].clone())

    handle = pipe.unet.register_forward_pre_hook(before, with_kwargs=True)
    timesteps = (101, 701)
    listeners = [(Sink(), "unconditional")]
    synthesiser.probe(latents, ["a cat", "a dog"], [1, 2], timesteps, listeners)
    handle.remove()
    alphas = torch.cumprod(1 - torch.from_numpy(_betas(pipe.scheduler.config)), 0)
    added = []
    for index, timestep in enumerate(timesteps):
        first, second = noise[index].chunk(2)
        assert torch.equal(first, second)
        kept = alphas[timestep].sqrt() * latents
        eps = (first - kept) / (1 - alphas[timestep]).sqrt()
        added.append(eps)
        # what was added is standard normal, and of each picture and timestep its own
        assert abs(eps.mean()) < 0.1
        assert abs(eps.std() - 1) < 0.1
    flat = torch.stack(added).flatten(2).reshape(4, -1)
    off = torch.corrcoef(flat) - torch.eye(4)
    assert off.abs().max() < 0.2
    empty = pipe.encode_prompt(["", ""], pipe.device, 1, False)[0]
    layer = [m for n, m in pipe.unet.named_modules() if n.endswith("transformer_blocks.0.attn2")]
    by_hand = []
    hook = [m.to_q.register_forward_hook(lambda m, a, out: by_hand.append(out)) for m in layer]
    with torch.no_grad():
        pipe.unet(noise[0].chunk(2)[0], timesteps[0], encoder_hidden_states=empty)
    for one in hook:
        one.remove()
    wanted = seen[0].permute(0, 2, 1, 3).flatten(2)
    assert any(q.shape == wanted.shape and torch.allclose(q, wanted, atol=1e-4) for q in by_hand)


def _betas(config):
    assert config.beta_schedule == "scaled_linear"
    low, high = config.beta_start**0.5, config.beta_end**0.5
    return np.linspace(low, high, config.num_train_timesteps, dtype=np.float32) ** 2


def test_a_probe_changes_no_bit_of_a_drawing():
    config = build_config({"model": {"id": "mini"}, "synthesis": {"steps": 2}})
    synthesiser = Synthesiser(load_pipeline(config.model), config.synthesis)
    heard = []

    class Sink:
        def update(self, layer, queries, size):
            pass

        def begin_call(self, timestep):
            heard.append(timestep)

    plain = synthesiser.draw(["a cat"], [3])
    listeners = [(Sink(), "conditional")]
    probed = synthesiser.draw(["a cat"], [3], listeners=listeners, probe=(301, 21))
    assert np.array_equal(plain.images, probed.images)
    assert heard == [301, 21]


def test_links_and_pipes_are_not_opened(photos, tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "link.png").symlink_to(photos / "deeper" / "wide.png")
    with pytest.raises(ConfigError, match="holds no picture but 1 links, which are not followed"):
        open_picture_source(str(tmp_path))
    with pytest.raises(ConfigError, match=r"cannot be listed: .*a folder of pictures is needed"):
        open_picture_source(str(tmp_path / "nowhere"))
    (tmp_path / "short.tar").write_bytes(b"no tar at all" * 100)
    with pytest.raises(ConfigError, match="cannot be read as a tar"):
        open_picture_source(str(tmp_path / "short.tar"))


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ("name,classes\nnowhere.jpg,cat\n", "tells of no picture that is there"),
        ("picture,classes\ngrey.JPG,unicorn\n", "line 2: .*unicorn"),
        ("caption\na cat\n", "expected a column named picture, file_name, image or name"),
    ],
)
def test_a_table_that_says_nothing_of_the_pictures_is_refused(photos, tmp_path, rows, match):
    (tmp_path / "table.csv").write_text(rows)
    config = config_of(photos, tmp_path, plan={"captions": str(tmp_path / "table.csv")})
    with pytest.raises((PlanError, ConfigError), match=match):
        plan_for(config)


def test_coco_captions_tell_classes_by_their_words(photos, tmp_path):
    images = [{"id": 7, "file_name": "grey.JPG"}, {"id": 8, "file_name": "elsewhere.jpg"}]
    texts = [(1, 7, "Nothing to see"), (2, 7, "A cat and two dogs."), (3, 8, "a bus")]
    annotations = [{"id": i, "image_id": image, "caption": text} for i, image, text in texts]
    path = tmp_path / "captions.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    plan = plan_for(config_of(photos, tmp_path, plan={"captions": str(path)}))
    (spec,) = plan.specs
    assert [target.class_name for target in spec.targets] == ["cat", "dog"]
    assert (spec.prompt, spec.image_id, spec.caption_id) == ("A cat and two dogs", 7, 2)
    reasons = sorted(rejection.reason.value for rejection in plan.rejections)
    assert reasons == ["no such picture", "no target", *["picture without a row"] * 5]


def test_what_only_captions_have_is_refused(photos, tmp_path):
    with pytest.raises(ConfigError, match=r"plan.per_class chooses among captions"):
        config_of(photos, tmp_path, plan={"per_class": 3})


def test_a_run_of_nothing_but_damaged_pictures_stops(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(b"\xff\xd8\xff nothing")
    with pytest.raises(OvamgenError, match=r"all failed, so the run stops; .* as a picture"):
        generate(config_of(tmp_path, tmp_path / "out"))


def test_a_head_looks_at_the_picture_itself(photos, tmp_path):
    """DatasetDM was trained on pictures at the last timestep: a label run probes there."""
    config = config_of(photos, tmp_path / "out", attribution={"method": "datasetdm"})
    with pytest.raises(ConfigError, match=r"attribution.probe ends at 101: probe at 1"):
        generate(config)
    sections = {"label": {"pictures": str(photos)}, "attribution": {"method": "datasetdm"}}
    assert build_config(sections, {"model": {"id": "mini"}}).attribution.probe == (1,)


def test_evaluation_looks_at_pictures_as_label_does(tmp_path):
    """The picture that is scored is the one that is there, not one that was drawn again."""
    where = ("--dataset", "mini", "--model", "mini", "--limit", "2", "--draws", "10")
    for name, probe in (("one", "[101]"), ("two", "[301]")):
        out = tmp_path / name
        done = ovamgen(
            "evaluate", "masks", *where, "--set", f"attribution.probe={probe}", "--out", out
        )
        assert done.returncode == 0, done.stderr
    maps = []
    for name in ("one", "two"):
        with np.load(next((tmp_path / name).rglob("*.npz"))) as archive:
            assert json.loads(str(archive["description"]))["difference"] == 0
            maps.append(archive["maps"])
    assert not np.array_equal(*maps)


def test_cards_do_not_call_somebodys_pictures_synthetic(labelled, tmp_path):
    config, _ = labelled
    exported = tmp_path / "hf"
    for command in (("hf", "--no-link"), ("coco",)):
        done = ovamgen("export", *command, config.out, "--out", tmp_path / command[0])
        assert done.returncode == 0, done.stderr
    done = ovamgen("report", config.out, "--out", tmp_path / "page.html")
    assert done.returncode == 0, done.stderr
    cards = [f"{config.out}/README.md", exported / "README.md", tmp_path / "coco" / "README.md"]
    for card in [*cards, exported / "croissant.json", tmp_path / "page.html"]:
        text = Path(card).read_text("utf-8")
        assert "synthetic" not in text.lower(), card
        assert "drew" not in text, card
        assert "drawn by" not in text, card
        assert "drawn from" not in text, card
        assert "were there before" in text, card
    assert verify(str(exported)).findings == ()
