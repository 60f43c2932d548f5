"""Prints as JSON what TensorBoard's own reader finds in a folder of event files."""

import json
import sys

from tensorboard.backend.event_processing.event_accumulator import HISTOGRAMS, SCALARS, TENSORS, EventAccumulator
from tensorboard.plugins.hparams import metadata
from tensorboard.util import tensor_util

events = EventAccumulator(sys.argv[1], size_guidance={SCALARS: 0, HISTOGRAMS: 0, TENSORS: 0})
events.Reload()
tags = events.Tags()


def text(event):
    (value,) = tensor_util.make_ndarray(event.tensor_proto)
    return [event.step, value.decode()]


def histogram(event):
    value = event.histogram_value
    moments = [value.min, value.max, value.num, value.sum, value.sum_squares]
    return {"step": event.step, "moments": moments, "limits": value.bucket_limit, "counts": value.bucket}


def hparams(contents):
    found = {}
    if metadata.EXPERIMENT_TAG in contents:
        experiment = metadata.parse_experiment_plugin_data(contents[metadata.EXPERIMENT_TAG])
        types = {info.name: info.type for info in experiment.hparam_infos}
        found["experiment"] = {"hparams": types, "metrics": [info.name.tag for info in experiment.metric_infos]}
    if metadata.SESSION_START_INFO_TAG in contents:
        start = metadata.parse_session_start_info_plugin_data(contents[metadata.SESSION_START_INFO_TAG])
        found["start"] = {name: getattr(value, value.WhichOneof("kind")) for name, value in start.hparams.items()}
    if metadata.SESSION_END_INFO_TAG in contents:
        found["end"] = metadata.parse_session_end_info_plugin_data(contents[metadata.SESSION_END_INFO_TAG]).status
    return found


def contents(plugin):
    try:
        return events.PluginTagToContent(plugin)
    except KeyError:
        return {}


print(
    json.dumps(
        {
            "scalars": {tag: [[e.step, e.value] for e in events.Scalars(tag)] for tag in tags["scalars"]},
            "histograms": {tag: [histogram(e) for e in events.Histograms(tag)] for tag in tags["histograms"]},
            "texts": {tag: [text(e) for e in events.Tensors(tag)] for tag in contents("text")},
            "hparams": hparams(contents(metadata.PLUGIN_NAME)),
        }
    )
)
