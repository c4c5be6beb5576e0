"""A store behind a network that fails: what passes is lived through, what does not is named."""

import logging
import re
import time
import traceback

import pytest

from ovamgen.errors import ConfigError, OvamgenError, ShardError
from ovamgen.storage import retrying
from ovamgen.storage.filesystems import PART_BYTES
from ovamgen.storage.object_store import ObjectStore
from tests.storage.faulty import TWENTY_PERCENT, Faults


@pytest.fixture
def bucket(any_bucket):
    return any_bucket


@pytest.fixture
def store(bucket):
    return ObjectStore(bucket.url)


@pytest.mark.slow  # test_s3_run.py has a whole run among such faults
def test_everything_goes_well_where_a_fifth_of_all_requests_fails(
    store, bucket, short_pauses, tmp_path
):
    big = bytes(range(256)) * (2 * PART_BYTES // 256) + b"end"
    with bucket.faulty(TWENTY_PERCENT) as proxy:
        for number in range(30):
            store.put(f"metadata/{number:02}", bytes([number]) * 100_000)
            assert store.create(f"records/{number:02}", b"record")
            assert store.size(f"metadata/{number:02}") == 100_000
        for number in range(30):
            assert store.read(f"metadata/{number:02}") == bytes([number]) * 100_000
            assert not store.create(f"records/{number:02}", b"another")
        assert len(store.list()) == 60
        path = tmp_path / "big"
        path.write_bytes(big)
        store.publish_file(path, "big.tar")
        with store.open("big.tar") as file:
            assert file.read() == big
        assert proxy.met["requests"] > 200
        for fault in ("fail", "reset", "delay", "cut", "drop"):
            assert proxy.met[fault]
        assert sum(proxy.met.values()) - proxy.met["requests"] > 0.1 * proxy.met["requests"]
    assert bucket.get("corpora/out/big.tar") == big


def test_a_create_whose_answer_is_lost_is_its_own(store, bucket, short_pauses):
    """The second attempt finds the object of the first; nobody else made it."""
    with bucket.faulty(Faults(drop=1.0)) as proxy:
        choose = proxy.choose

        def once(method, size):
            fault = choose(method, size)
            proxy.faults = Faults()
            return fault

        proxy.choose = once
        assert store.create("record", b"mine")
        assert proxy.met["drop"] == 1
    assert bucket.get("corpora/out/record") == b"mine"


def test_a_create_that_another_has_won_meanwhile_is_not(store, bucket, short_pauses):
    """The first attempt did nothing, the second finds what somebody else wrote."""
    with bucket.faulty(Faults(fail=1.0)) as proxy:
        choose = proxy.choose

        def then_another(method, size):
            fault = choose(method, size)
            if method in ("PUT", "POST") and fault:
                bucket.put("corpora/out/record", b"theirs")
                proxy.faults = Faults()
            return fault

        proxy.choose = then_another
        assert not store.create("record", b"mine")
    assert bucket.get("corpora/out/record") == b"theirs"


def test_an_upload_that_arrives_short_or_damaged_is_sent_again(
    store, bucket, short_pauses, tmp_path
):
    path = tmp_path / "x"
    for arrived in (b"whol", b"WHOLE"):
        path.write_bytes(b"whole")
        with bucket.faulty() as proxy:
            choose, uploads = proxy.choose, []

            def damage(method, size, arrived=arrived, uploads=uploads, choose=choose):
                if method in ("HEAD", "GET") and not uploads:
                    uploads.append(1)
                    bucket.put("corpora/out/x", arrived)
                return choose(method, size)

            proxy.choose = damage
            store.publish_file(path, "x")
        assert bucket.get("corpora/out/x") == b"whole"
        assert not path.exists()


def test_a_store_that_stays_out_of_order_is_given_up_at_the_deadline(bucket, short_pauses):
    store = ObjectStore(bucket.url, patience_seconds=1.5)
    with bucket.faulty(Faults(fail=1.0)) as proxy:
        told = rf"cannot write a in {bucket.url}.*reduce your request rate.*\(for \d+ s\)"
        with pytest.raises(ShardError, match=told):
            store.put("a", b"1")
        assert proxy.met["fail"] >= 4


@pytest.mark.parametrize(
    ("faults", "error", "message"),
    [
        (Faults(deny=True), ConfigError, r"Access ?Denied.*; check the credentials"),
        (Faults(full_after_bytes=10), ShardError, r"There is no space left.*; make room or raise"),
        (
            Faults(full_after_bytes=0, full_as="quota"),
            ShardError,
            r"The quota of .*; make room",
        ),
    ],
)
def test_what_does_not_pass_is_told_at_once(store, bucket, faults, error, message):
    start = time.monotonic()
    with bucket.faulty(faults) as proxy:
        with pytest.raises(error, match=f"cannot write a in {re.escape(bucket.url)}: .*{message}"):
            store.put("a", b"x" * 100)
        with pytest.raises(error, match=message):
            store.create("b", b"x" * 100)
        assert proxy.met["requests"] == 2
    assert time.monotonic() - start < 60


def test_a_missing_bucket_is_named(bucket):
    url = f"{bucket.store}://not-{bucket.name}/out"
    store = ObjectStore(url)
    for act in (
        store.list,
        lambda: store.size("a"),
        lambda: store.read("a"),
        lambda: store.put("a", b""),
        lambda: store.create("a", b""),
        lambda: store.lock().__enter__(),
        # each by a store that has not asked before
        ObjectStore(url).list,
        lambda: ObjectStore(url).size("a"),
        lambda: ObjectStore(url).put("a", b""),
    ):
        with pytest.raises(ConfigError, match="there is no such bucket: check its name"):
            act()


def test_an_endpoint_where_nobody_answers_is_told_within_seconds(bucket, short_pauses, monkeypatch):
    monkeypatch.setattr(retrying, "CONTACT_SECONDS", 1.0)
    monkeypatch.setenv(bucket.variable, bucket.at("http://127.0.0.1:9"))
    with pytest.raises(ConfigError, match=r"check the network and the endpoint"):
        ObjectStore(bucket.url).size("a")


def test_a_password_in_the_endpoint_is_not_repeated(bucket, short_pauses, monkeypatch):
    monkeypatch.setenv(bucket.variable, bucket.at("http://someone:hidden@127.0.0.1:9"))
    with pytest.raises(OvamgenError) as info:
        ObjectStore(bucket.url, patience_seconds=0.5).size("a")
    assert "hidden" not in str(info.value)


def test_a_store_that_has_answered_is_waited_for(bucket, short_pauses, monkeypatch):
    """A restart of the store in the middle of a run: longer than a first contact is given."""
    monkeypatch.setattr(retrying, "CONTACT_SECONDS", 0.0)
    store = ObjectStore(bucket.url)
    store.put("a", b"1")
    with bucket.faulty(Faults(reset=1.0)) as proxy:
        choose = proxy.choose

        def comes_back(method, size):
            if proxy.met["requests"] > 12:
                proxy.faults = Faults()
            return choose(method, size)

        proxy.choose = comes_back
        assert store.read("a") == b"1"


def test_missing_credentials_are_named(bucket, monkeypatch):
    variables, told = {
        "s3": (("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"), "Unable to locate credentials; "),
        "gs": (
            ("GOOGLE_APPLICATION_CREDENTIALS",),
            r"Invalid Credentials.*; check the credentials",
        ),
        "az": (("AZURE_STORAGE_CONNECTION_STRING",), "set AZURE_STORAGE_CONNECTION_STRING, or"),
    }[bucket.store]
    for variable in variables:
        monkeypatch.delenv(variable)
    with pytest.raises(ConfigError, match=told):
        ObjectStore(bucket.url).list()


def test_wrong_credentials_are_told(bucket, monkeypatch, caplog):
    """Of moto none are wrong."""
    if bucket.store == "s3":
        pytest.skip("moto's server takes every key")
    caplog.set_level(logging.DEBUG, "ovamgen")
    bucket.forge(monkeypatch)
    store = ObjectStore(bucket.url)
    for act in (store.list, lambda: store.read("a"), lambda: store.create("a", b"")):
        with pytest.raises(ConfigError, match="; check the credentials") as info:
            act()
        assert len(str(info.value).splitlines()) == 1
        assert bucket.secrets[0] not in str(info.value) + caplog.text
    assert bucket.names() == []


@pytest.mark.parametrize(
    "faults",
    [Faults(deny=True), Faults(reset=1.0), Faults(cut=1.0), Faults(drop=1.0)],
)
def test_credentials_are_in_no_error_and_no_log(bucket, short_pauses, faults, caplog, capfd):
    caplog.set_level(logging.INFO)
    bucket.put("corpora/out/a", b"x" * 1000)
    store = ObjectStore(bucket.url, patience_seconds=0.2)
    said = []
    with bucket.faulty(faults):
        for act in (lambda: store.read("a"), lambda: store.create("c", b"x")):
            try:
                act()
            except OvamgenError:
                said.append(traceback.format_exc())
    assert said
    text = "\n".join([*said, caplog.text, *capfd.readouterr()])
    for secret in (*bucket.secrets, "Signature", "SharedKey", "Bearer"):
        assert secret not in text
