"""The runner without Ray: the pending shards one after the other, in this process."""

from __future__ import annotations

from collections.abc import Sequence

from ovamgen.drain import drain_on_signals
from ovamgen.generate import load_engine_factory, make_shard, sample_context
from ovamgen.isolation import EngineFactory
from ovamgen.progress import RunProgress
from ovamgen.records import SampleFailure
from ovamgen.run import Run


def generate_local(run: Run, progress: RunProgress, factory: EngineFactory | None = None) -> None:
    """Makes every pending shard of the run, in order.

    Raises:
        Interrupted: a signal came and its time for draining is over.
        OvamgenError: the model cannot be loaded, the first samples all fail, the store fails.
    """
    progress.say(f"loading {run.config.model.id} on {run.config.model.device}")
    engine = (factory or load_engine_factory())(run.config)
    run.confirm_model(engine.info, engine.tokens_digest)
    context = sample_context(run.config, run.fingerprint, engine)
    early_stop = run.early_stop()
    with drain_on_signals(run.config.runtime.drain_seconds, progress.say) as drain:

        def after_batch(made: int, failures: Sequence[SampleFailure]) -> None:
            early_stop.count(made, failures)
            progress.add(images=made, failed=len(failures))
            drain.check()

        for task in run.pending:
            if drain.asked:
                break
            run.finished(make_shard(task, engine, context, run.store, after_batch=after_batch))
            progress.add(shards=1)
        if run.pending:
            drain.finish()
