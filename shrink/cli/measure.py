"""`shrink measure`: what one model costs."""
# ruff: noqa: PLC0415 (torch is imported when a command runs, not for --help)

from shrink.cli import options
from shrink.cli.common import Stages, check_device, command, print_json, print_rich
from shrink.report.document import to_json
from shrink.report.terminal import show_measurement


@command
def measure(  # noqa: PLR0913  one parameter per option
    model: options.Model,
    *,
    weights: options.Weights = "auto",
    input: options.Input = None,  # noqa: A002
    device: options.Device = "auto",
    dtype: options.Dtype = "fp32",
    channels_last: options.ChannelsLast = False,
    seed: options.Seed = 0,
    as_json: options.Json = False,
    debug: options.Debug = False,  # noqa: ARG001  `command` reads it
) -> None:
    """Measure MACs, parameters, latency and memory of MODEL."""
    stages = Stages(("model", "measure"))
    with stages("model"):
        check_device(device)
        from shrink import api, models

        resolved = models.resolve(model, weights=weights, input=input, seed=seed)
    found = api.measure(
        resolved.module,
        resolved.inputs,
        device=device,
        dtype=dtype,
        channels_last=channels_last,
        progress=stages,
    )
    if as_json:
        about = {"name": model, "weights": resolved.weights_note}
        document = {
            "model": about,
            "cost": found.cost,
            "environment": found.environment,
            "warnings": resolved.warnings,
        }
        print_json(to_json(document))
    else:
        print_rich(show_measurement(model, found.cost, found.environment, resolved.warnings))
