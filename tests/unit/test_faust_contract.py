"""The private parts of Faust and aiokafka that are overridden or used are those that were read when that was written.

Each is named with a digest of its source. Where a release changes one, the test of that name fails: read what is new,
see whether `worker/faust_overrides.py` (`kafka/bulk_reader.py`, `worker/changelog.py`, `worker/instance_guard.py`)
still holds, then renew the digest.
"""

import hashlib
import importlib
import inspect
from importlib.metadata import version

import pytest

FAUST = {
    "faust.app.base:App._new_transport": "42db531312dd776f",
    "faust.app.base:App._new_web": "9558ffdcacfa13bd",
    "faust.app.router:Router.key_store": "3f63e5e508ae7c8e",
    "faust.assignor.partition_assignor:PartitionAssignor.on_assignment": "72f34bf053d696b5",
    "faust.assignor.partition_assignor:PartitionAssignor._compress": "de873849928dbd83",
    "faust.assignor.partition_assignor:PartitionAssignor._decompress": "d65b7310c43aebd7",
    "faust.stores.memory:Store.persisted_offset": "fbba5c6544979388",
    "faust.stores.base:Store.on_rebalance": "a32fbe3c18de4288",
    "faust.tables.base:Collection._new_store": "914a2bda605d38f5",
    "faust.tables.manager:TableManager.on_start": "365dd25fbc0e0684",
    "faust.tables.manager:TableManager._update_channels": "88e3941facc934d6",
    "faust.transport.consumer:Consumer.seek_wait": "663c0cec70b3dfbb",
    "faust.transport.consumer:Consumer.seek_to_committed": "8d52f70fc8826291",
    "faust.transport.drivers.aiokafka:Consumer._new_consumer_thread": "0870ec53dea75083",
    "faust.transport.drivers.aiokafka:AIOKafkaConsumerThread.on_start": "38b4e8bd1e10723a",
    "faust.transport.drivers.aiokafka:AIOKafkaConsumerThread.on_thread_stop": "8dfc004e258b6c25",
    "faust.transport.drivers.aiokafka:AIOKafkaConsumerThread.verify_event_path": "b983e7735f647cb3",
    "faust.web.drivers.aiohttp:Web._new_transport_tcp": "3f9463d869f309ec",
    "faust.web.drivers.aiohttp:Web._create_site": "7661e68de0f1b2ed",
    "faust.web.drivers.aiohttp:Web.start_server": "b0c4f10491828520",
    "mode.worker:Worker.install_signal_handlers": "5cb3d584d58fd7cd",
    "mode.worker:Worker._on_sigterm": "6b99528ef557db1d",
    "mode.worker:Worker.on_worker_shutdown": "2cc9388f7d21c408",
}
AIOKAFKA = {
    "aiokafka.client:AIOKafkaClient.bootstrap": "198943b004e55849",
    "aiokafka.client:AIOKafkaClient.close": "02119d4d618ae493",
    "aiokafka.client:AIOKafkaClient.force_metadata_update": "cb7befef21c8f3f9",
    "aiokafka.client:AIOKafkaClient.set_topics": "9f9b55d6d8997834",
    "aiokafka.client:AIOKafkaClient.send": "246b277687d7b687",
    "aiokafka.cluster:ClusterMetadata.leader_for_partition": "802f7e4f021d9682",
    "aiokafka.protocol.fetch:FetchRequest": "ef21d383f1372a25",
    "aiokafka.protocol.offset:OffsetRequest": "d01378a63d0c1062",
    "aiokafka.record.default_records:_DefaultRecordBatchPy": "f63fbb5a8a247d54",
    "aiokafka.producer.message_accumulator:MessageAccumulator.drain_by_nodes": "fc995afbfc5718e2",
    "aiokafka.producer.sender:SendProduceReqHandler._can_retry": "7ff5d491d977aacf",
    "aiokafka.consumer.group_coordinator:GroupCoordinator._do_rejoin_group": "3cb016c98a087a71",
    "aiokafka.consumer.group_coordinator:GroupCoordinator._send_req": "fa4b12e914ce9fcf",
}


def digest(part: str) -> str:
    """Of the part's source."""
    module, _, path = part.partition(":")
    value = importlib.import_module(module)
    for name in path.split("."):
        value = getattr(value, name)
    return hashlib.sha256(inspect.getsource(value).encode()).hexdigest()[:16]


@pytest.mark.parametrize("part", FAUST)
def test_a_part_of_faust_that_is_overridden_or_used_is_as_it_was_read(part: str) -> None:
    assert digest(part) == FAUST[part], f"{part} is another one in faust-streaming {version('faust-streaming')}"


@pytest.mark.parametrize("part", AIOKAFKA)
def test_a_part_of_aiokafka_that_is_used_is_as_it_was_read(part: str) -> None:
    assert digest(part) == AIOKAFKA[part], f"{part} is another one in aiokafka {version('aiokafka')}"
