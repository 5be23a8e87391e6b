"""Evaluate trained weights on the configuration's validation data, as PaddleSeg's tools/val.py does."""

from bisenetv1_plugin.cli import flags

SUMMARY = "evaluate trained weights"


def add_arguments(parser):
    flags.add_config_arguments(parser)
    flags.add_test_arguments(parser, "aug_eval")
    parser.add_argument("--num_workers", type=int, default=0, help="processes that load data")
    parser.add_argument("--auc_roc", action="store_true", help="also compute the area under the ROC curve")
    parser.add_argument("--opts", nargs="+", help="other values of the configuration, as key.key=value")


def run(args):
    from paddleseg.core import evaluate
    from paddleseg.utils import utils

    from bisenetv1_plugin import project

    cfg = project.load_config(args.config, args.opts, needs=["val_dataset"])
    options = flags.test_config(cfg, args, "aug_eval")
    if args.auc_roc:
        options["auc_roc"] = True
    utils.show_env_info()
    project.set_device(args.device)
    build = project.Builder(cfg)
    val_dataset = build.val_dataset
    evaluate(project.trained_model(build, args.model_path), val_dataset, num_workers=args.num_workers, **options)
