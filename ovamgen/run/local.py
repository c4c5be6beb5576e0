"""The runner without Ray: the pending shards one after the other, in this process."""

from __future__ import annotations

import os
import socket

from ovamgen import fault_points
from ovamgen.console.progress import RunProgress
from ovamgen.records import SampleFailure, SynthesisBatch
from ovamgen.run.bad_samples import EngineFactory
from ovamgen.run.drain import drain_on_signals
from ovamgen.run.run import Run
from ovamgen.run.shard import Results, load_engine_factory, make_shard, sample_context
from ovamgen.run.timing import StageClock


def generate_local(run: Run, progress: RunProgress, factory: EngineFactory | None = None) -> None:
    """Makes every pending shard of the run, in order.

    Raises:
        Interrupted: a signal came and its time for draining is over.
        OvamgenError: the model cannot be loaded, the first samples all fail, the store fails.
    """
    progress.say(f"loading {run.config.model.id} on {run.config.model.device}")
    clock, journal = StageClock(), run.journal
    with clock.measure("loading"):
        fault_points.reach("worker.loading")
        engine = (factory or load_engine_factory())(run.config)
    run.confirm_model(engine.info, engine.tokens_digest)
    worker = f"process {os.getpid()} on {socket.gethostname()}"
    journal.workers_wanted = 1
    journal.worker_ready(worker, clock.take())
    journal.batch_given(worker)
    context = sample_context(run.config, run.fingerprint, engine)
    early_stop = run.early_stop()
    with drain_on_signals(run.config.runtime.drain_seconds, progress.say) as drain:
        for task in run.pending:
            if drain.asked:
                break

            def after_batch(
                batch: SynthesisBatch, refined: Results, index: int = task.shard_index
            ) -> None:
                bad = [result for result in refined if isinstance(result, SampleFailure)]
                made, failures = len(refined) - len(bad), [*batch.failures, *bad]
                early_stop.count(made, failures)
                progress.count(images=made, failed=len(failures))
                journal.batch_ended(worker, clock.take())
                journal.ended(index, made, failures)
                journal.batch_given(worker)
                drain.check()

            journal.shard_begun(task.shard_index, len(task.specs))
            run.finished(
                make_shard(task, engine, context, run.store, after_batch=after_batch, clock=clock)
            )
            journal.spent(clock.take())
            journal.shard_finished(task.shard_index)
            progress.count(shards=1)
        if run.shards_left:
            drain.finish()
