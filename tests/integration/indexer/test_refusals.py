"""What the indexer refuses, with one sentence and an exit code: never a traceback, never a record."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.integration.indexer.rig import Rig


async def refusal(rig: Rig, *arguments: str, **settings: str) -> tuple[int, str]:
    code, out = await rig.command(*arguments, **settings)
    assert "Traceback" not in out, out
    return code, out


async def test_a_node_of_another_chain_is_refused(rig: Rig) -> None:
    rig.write_registry(chain_id=1)
    code, out = await refusal(rig, "run", CHAIN__ID="1")
    assert code == 2
    assert "is on chain id 31337, [chain] id says 1" in out
    assert await rig.events() == []


async def test_missing_topics_are_refused(rig: Rig) -> None:
    code, out = await refusal(rig, "run", KAFKA__TOPIC_PREFIX=f"{rig.prefix}other.")
    assert code == 2
    assert "topics ensure" in out


async def test_another_number_of_partitions_is_refused(rig: Rig) -> None:
    code, out = await refusal(rig, "run", KAFKA__PARTITIONS="3")
    assert code == 2
    assert "has 2 partitions, not 3" in out


async def test_a_topic_that_forgets_is_refused(rig: Rig) -> None:
    other = f"{rig.prefix}other."
    client = AIOKafkaAdminClient(bootstrap_servers=rig.kafka)
    await client.start()
    try:
        await client.create_topics(
            [NewTopic(f"{other}payments.local.events.v1", 2, 1, topic_configs={"retention.ms": "604800000"})]
        )
    finally:
        await client.close()
    code, out = await refusal(rig, "topics", "ensure", KAFKA__TOPIC_PREFIX=other)
    assert code == 2
    assert "retention.ms=604800000, not -1" in out


@pytest.mark.parametrize(("lost", "said"), [("state", "the state topic was lost"), ("final", "it was emptied")])
async def test_a_lost_topic_is_refused(rig: Rig, lost: str, said: str) -> None:
    process = await rig.start()
    await rig.till.pay()
    await rig.till.mine()
    await rig.until_published(await rig.till.head())
    await rig.stop(process)
    before = await rig.events()
    client = AIOKafkaAdminClient(bootstrap_servers=rig.kafka)
    await client.start()
    try:
        await client.delete_topics([getattr(rig.topics, lost)])
    finally:
        await client.close()
    await rig.ensure_topics()
    code, out = await refusal(rig, "run")
    assert code == 2
    assert said in out
    assert await rig.events() == before


async def test_a_changed_description_is_refused_on_a_running_chain(rig: Rig) -> None:
    process = await rig.start()
    await rig.till.pay()
    await rig.till.mine()
    await rig.until_published(await rig.till.head())
    await rig.stop(process)
    rig.write_registry(start_block=1)
    code, out = await refusal(rig, "run")
    assert code == 2
    assert "descriptions changed: till" in out


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"CHAIN__RPC_HTTP": "ftp://node"}, "CHAINBOOKS_CHAIN__RPC_HTTP: chain.rpc_http"),
        ({"KAFKA__PARTITIONS": "many"}, "CHAINBOOKS_KAFKA__PARTITIONS: kafka.partitions"),
        ({"INDEXER__LEASE_S": "0"}, "CHAINBOOKS_INDEXER__LEASE_S: indexer.lease_s"),
    ],
)
async def test_bad_settings_name_variable_field_and_reason(rig: Rig, settings: dict[str, str], said: str) -> None:
    code, out = await refusal(rig, "check-config", **settings)
    assert code == 2
    assert said in out


async def test_a_bad_description_names_file_line_and_field(rig: Rig, tmp_path: Path) -> None:
    file = tmp_path / "registry" / "till.yaml"
    file.write_text(file.read_text().replace("amount: amount", "amount: amont"))
    code, out = await refusal(rig, "run")
    assert code == 2
    assert "till.yaml:" in out
    assert "did you mean 'amount'?" in out


async def test_check_config_shows_no_secret(rig: Rig) -> None:
    code, out = await rig.command("check-config", "--json", CHAIN__RPC_HTTP="https://user:pw@node.example/key123")
    assert code == 0
    assert "key123" not in out
    assert "pw" not in out.replace("https://node.example/…", "")


async def test_a_dependency_that_stays_away_ends_with_exit_code_3(rig: Rig) -> None:
    code, out = await refusal(rig, "run", CHAIN__RPC_HTTP="http://127.0.0.1:9", INDEXER__START_TIMEOUT_S="1")
    assert code == 3
    assert "could not be asked" in out
    code, out = await refusal(
        rig, "run", KAFKA__BOOTSTRAP_SERVERS="127.0.0.1:9", INDEXER__START_TIMEOUT_S="1", INDEXER__KAFKA_TIMEOUT_S="1"
    )
    assert code == 3
