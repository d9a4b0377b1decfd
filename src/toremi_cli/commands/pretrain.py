"""`toremi pretrain`: train a language model on the annotated corpus, reweighting its topics."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from toremi_cli import console
from toremi_cli.commands.common import DEFAULT_WORKDIR, Json, Workdir, command
from toremi_cli.commands.options import AUTO

_MODEL, _POLICY, _LENGTH, _OPTIMIZER, _RUN, _MACHINE = (
    "Model",
    "Reweighting",
    "Length and batch",
    "Optimizer",
    "Run folder",
    "Machine",
)
POLICY_FIELDS = (
    *("alpha", "w_min", "w_max", "rule", "normalize", "stage_switch", "plateau_threshold", "loss_unit"),
    *("apply", "sampling_floor", "max_repeats", "eta", "smoothing", "temperature", "burn_in_steps", "of"),
    "at_switch",
)
"""Options that are settings of the policy."""


def _option(panel: str, text: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, **more)


def _steps(value: str | int) -> int:
    """A number of steps, 0 for `auto`.

    Raises:
        BadParameter: neither.
    """
    text = str(value)
    if text in (AUTO, "0"):  # 0 is the default as typer gives it
        return 0
    if not (text.isascii() and text.isdigit()):
        raise typer.BadParameter(f"{text!r} is neither a number of steps nor 'auto'.")
    return int(text)


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""

    @command(app, "pretrain", "Stages")
    def pretrain(
        ctx: typer.Context,
        workdir: Workdir = DEFAULT_WORKDIR,
        # Model
        model: Annotated[
            str,
            _option(
                _MODEL, "tiny, small, gpt2, gpt2-medium, gpt2-large, gpt2-xl, or the path of a transformers config."
            ),
        ] = "tiny",
        init_from: Annotated[str, _option(_MODEL, "Checkpoint folder to continue from.", metavar="DIR")] = "",
        context_length: Annotated[int, _option(_MODEL, "Tokens a row; 0: the preset's.", min=0)] = 0,
        annotated: Annotated[
            str, _option(_MODEL, "Table to train on, if not the workdir's.", "--annotated", metavar="PATH")
        ] = "",
        tokenizer: Annotated[
            str, _option(_MODEL, "Tokenizer's folder, if not the workdir's.", "--tokenizer", metavar="DIR")
        ] = "",
        # Reweighting
        policy: Annotated[
            str, _option(_POLICY, "How weights change; --list-policies tells all.", "--policy", "-p")
        ] = "toremi-2",
        list_policies: Annotated[
            bool, _option(_POLICY, "List the policies and exit.", "--list-policies", show_default=False)
        ] = False,
        apply: Annotated[
            str, _option(_POLICY, "What weights act on: loss, sampling, both; auto: as the policy was made for.")
        ] = "auto",
        topics: Annotated[
            str,
            _option(
                _POLICY,
                "What a sample's topics are: labels, fine, soft (mixture), source; auto: labels for the paper's "
                "policies, else fine.",
            ),
        ] = "auto",
        interval: Annotated[
            int,
            _option(
                _POLICY,
                "Steps between two updates of the weights; auto: 80 updates.",
                parser=_steps,
                metavar="STEPS",
                show_default="auto",
            ),
        ] = 0,
        alpha: Annotated[float, _option(_POLICY, "Step size of an update.")] = 1.0,
        w_min: Annotated[float, _option(_POLICY, "Lower bound of a weight.")] = 0.1,
        w_max: Annotated[float, _option(_POLICY, "Upper bound of a weight.")] = 5.0,
        rule: Annotated[
            str, _option(_POLICY, "multiplicative (reference code) or additive (the paper's formula).")
        ] = "multiplicative",
        normalize: Annotated[bool, _option(_POLICY, "Keep the mean weight at 1.", "--normalize")] = False,
        stage_switch: Annotated[
            str,
            _option(
                _POLICY,
                "When stage 2 begins: plateau, step:N, fraction:F, never; auto: plateau.",
            ),
        ] = "auto",
        plateau_threshold: Annotated[
            float, _option(_POLICY, "Relative decrease of the validation loss that counts as a plateau.")
        ] = 0.01,
        at_switch: Annotated[
            str, _option(_POLICY, "What stage 2 does with the weights it finds: keep, reset, anneal.")
        ] = "keep",
        loss_unit: Annotated[str, _option(_POLICY, "Topic losses by token or byte.")] = "token",
        sampling_floor: Annotated[
            float, _option(_POLICY, "Least rate at which a topic is drawn, as a fraction of its natural one.")
        ] = 0.1,
        max_repeats: Annotated[
            float, _option(_POLICY, "Most times a topic's samples are drawn in a run, on average; 0: any.")
        ] = 4.0,
        sensitivity: Annotated[
            bool, _option(_POLICY, "Measure gradient sensitivity by topic.", "--sensitivity")
        ] = False,
        reference_losses: Annotated[
            str,
            _option(_POLICY, "Another run's weights table: its losses; for group-dro, shearing.", metavar="PATH"),
        ] = "",
        weights_from: Annotated[str, _option(_POLICY, "Another run's weights table, for frozen.", metavar="PATH")] = "",
        of: Annotated[str, _option(_POLICY, "The policy that shuffled-topics shuffles.")] = "toremi-2",
        eta: Annotated[float, _option(_POLICY, "Step size of group-dro and shearing.")] = 1.0,
        smoothing: Annotated[float, _option(_POLICY, "Their uniform part; -1: the paper's.")] = -1.0,
        temperature: Annotated[float, _option(_POLICY, "T of policy temperature.")] = 10 / 3,
        burn_in_steps: Annotated[int, _option(_POLICY, "Uniform steps before linupper and ado begin.")] = 1000,
        loss_average: Annotated[str, _option(_POLICY, "The step's loss: mean over sample or token.")] = "sample",
        mask_documents: Annotated[
            bool, _option(_MODEL, "Let tokens see only those of their own sample.", "--mask-documents")
        ] = False,
        # Length and batch
        max_steps: Annotated[int, _option(_LENGTH, "Optimizer steps; without any of these: one epoch.", min=0)] = 0,
        max_tokens: Annotated[int, _option(_LENGTH, "Tokens to train for.", min=0)] = 0,
        epochs: Annotated[float, _option(_LENGTH, "Passes over the corpus.", min=0.0)] = 0.0,
        batch_size: Annotated[
            int, _option(_LENGTH, "Rows a step, all processes together; 0: the preset's.", min=0)
        ] = 0,
        batch_tokens: Annotated[int, _option(_LENGTH, "The same in tokens.", min=0)] = 0,
        grad_accumulation: Annotated[
            int, _option(_LENGTH, "Micro-steps a step; 0: as memory asks.", "--grad-accumulation", min=0)
        ] = 0,
        # Optimizer
        learning_rate: Annotated[float, _option(_OPTIMIZER, "Its peak; 0: by the model.", "--learning-rate")] = 0.0,
        min_learning_rate: Annotated[float, _option(_OPTIMIZER, "Where the decay ends, as a fraction.")] = 0.1,
        schedule: Annotated[str, _option(_OPTIMIZER, "cosine, linear or constant.")] = "cosine",
        warmup_steps: Annotated[int, _option(_OPTIMIZER, "Linear warm-up; -1: 5%, at most 500.")] = -1,
        weight_decay: Annotated[float, _option(_OPTIMIZER, "On matrices only.")] = 0.1,
        beta1: Annotated[float, _option(_OPTIMIZER, "AdamW's beta1.")] = 0.9,
        beta2: Annotated[float, _option(_OPTIMIZER, "AdamW's beta2.")] = 0.95,
        grad_clip: Annotated[float, _option(_OPTIMIZER, "Largest gradient norm; 0: none.")] = 1.0,
        precision: Annotated[str, _option(_OPTIMIZER, "auto (bf16 where the GPU has it), bf16, tf32, fp32.")] = "auto",
        compile_model: Annotated[bool, _option(_MACHINE, "Compile the model with torch.compile.", "--compile")] = False,
        gradient_checkpointing: Annotated[
            bool, _option(_MACHINE, "Less memory for activations, a third more work.", "--gradient-checkpointing")
        ] = False,
        chunked_loss: Annotated[bool, _option(_MACHINE, "Never hold all logits in memory.", "--chunked-loss")] = False,
        # Run folder
        name: Annotated[str, _option(_RUN, "Name of the run; without it, the policy's.", "--name", "-n")] = "",
        resume: Annotated[bool, _option(_RUN, "Go on from the last whole checkpoint.", "--resume")] = False,
        overwrite: Annotated[bool, _option(_RUN, "Replace a run of this name.", "--overwrite")] = False,
        eval_every: Annotated[int, _option(_RUN, "Steps between evaluations; 0: a tenth of the time.", min=0)] = 0,
        eval_samples: Annotated[
            int, _option(_RUN, "Validation samples a source, at most; 0: no evaluation.", min=0)
        ] = 32,
        checkpoint_every: Annotated[int, _option(_RUN, "Steps between checkpoints.", min=1)] = 500,
        keep_checkpoints: Annotated[int, _option(_RUN, "How many of the newest stay; 0: all.", min=0)] = 2,
        log_every: Annotated[int, _option(_RUN, "Steps between logged losses.", min=1)] = 10,
        log_with: Annotated[
            str, _option(_RUN, "Also log metrics to tensorboard, wandb or trackio.", metavar="TRACKER")
        ] = "",
        dry_run: Annotated[bool, _option(_RUN, "Print the plan; train nothing.", "--dry-run")] = False,
        seed: Annotated[int, _option(_RUN, "Seed of every random stream.")] = 0,
        # Machine
        gpus: Annotated[int, _option(_MACHINE, "GPUs of this machine; -1: all; 0: the CPU.", min=-1)] = -1,
        processes: Annotated[int, _option(_MACHINE, "Processes where there is no GPU.", min=1)] = 1,
        rank_timeout: Annotated[float, _option(_MACHINE, "Minutes that a process waits for the others.")] = 120.0,
        accelerate_config: Annotated[
            str, _option(_MACHINE, "A config file of accelerate (FSDP, several machines).", metavar="FILE")
        ] = "",
        as_json: Json = False,
    ) -> None:
        """Train a language model on the annotated corpus, reweighting its topics.

        Writes to WORKDIR/runs/NAME while it runs: weights/ (topic weights by
        interval), metrics/, and checkpoint-N/ in Hugging Face layout. The same
        command again goes on where it stopped.

        Example: [bold]toremi pretrain --model tiny --policy toremi-2 --max-steps 600[/]
        """
        if list_policies:
            _print_policies(as_json)
            return
        from toremi_cli.train.start import plan_only, start_run

        values = {**ctx.params, "compile": compile_model}
        values["policy"] = {"name": policy, **{key: values[key] for key in POLICY_FIELDS}}
        given = {"compile" if key == "compile_model" else key for key in ctx.params if _is_given(ctx, key)}
        if dry_run:
            plan = plan_only(values)
            console.print_json(plan) if as_json else _print_plan(plan)
            return
        outcome = start_run(values, given, resume=resume, overwrite=overwrite, debug=bool(ctx.params.get("debug")))
        _finish(outcome, as_json)


def _print_policies(as_json: bool) -> None:
    from rich.table import Table as RichTable
    from rich.text import Text

    from toremi_cli.policy_list import POLICY_LIST

    if as_json:
        console.print_json({name: policy._asdict() for name, policy in POLICY_LIST.items()})
        return
    table = RichTable("policy", "acts on", "what it does", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name, policy in POLICY_LIST.items():
        table.add_row(Text(name), Text(policy.acts_on), Text(policy.summary))
    console.out.print(table)


def _print_plan(plan: dict[str, Any]) -> None:
    from rich.table import Table as RichTable
    from rich.text import Text

    for key, value in plan.items():
        if key != "sources":
            text = f"{value:,}" if isinstance(value, int) else f"{value:,.4g}" if isinstance(value, float) else value
            console.say(f"{key.replace('_', ' '):<24}{text}")
    table = RichTable("source", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("samples", "tokens", "epochs"):
        table.add_column(heading, justify="right")
    for source in plan["sources"]:
        row = f"{source['num_samples']:,}", f"{source['num_tokens']:,}", f"{source['epochs']:.2f}"
        table.add_row(Text(source["source"]), *row)
    console.out.print(table)


def _is_given(ctx: typer.Context, key: str) -> bool:
    source = ctx.get_parameter_source(key)
    return source is not None and source.name == "COMMANDLINE"


def _finish(outcome: dict[str, Any], as_json: bool) -> None:
    summary = outcome["summary"]  # the first rank's alone
    if summary and as_json:
        console.print_json(summary)
    elif summary:
        _print(summary)
    if outcome["signal"] and summary:
        console.note(
            f"stopped after step {summary['step']:,} of {summary['max_steps']:,}; "
            "go on with the same command and --resume"
        )
    if outcome["exit_code"]:
        raise typer.Exit(outcome["exit_code"])


def _print(summary: dict[str, Any]) -> None:
    line = f"{summary['checkpoint']}: train loss {summary['train_loss']:.4f}"
    if "validation_micro_loss" in summary:
        line += f", validation loss {summary['validation_micro_loss']:.4f}"
        line += f" (mean over sources {summary['validation_macro_loss']:.4f})"
    console.say(f"{line}, {summary['tokens_per_second']:,.0f} tokens/s")
