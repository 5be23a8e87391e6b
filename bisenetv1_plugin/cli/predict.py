"""Predict images with trained weights, as PaddleSeg's tools/predict.py does: masks and overlays as pictures."""

from bisenetv1_plugin.cli import flags

SUMMARY = "predict images with trained weights"


def add_arguments(parser):
    flags.add_config_arguments(parser)
    flags.add_test_arguments(parser, "aug_pred")
    flags.add_image_arguments(parser, save_dir="./output/result")
    parser.add_argument("--custom_color", nargs="+", type=int, help="a palette for the pictures: R G B R G B ...")


def run(args):
    from paddleseg.core import predict
    from paddleseg.transforms import Compose

    from bisenetv1_plugin import project
    from bisenetv1_plugin.deploy import images

    cfg = project.load_config(args.config)
    options = flags.test_config(cfg, args, "aug_pred")
    options.pop("auc_roc", None)
    if args.custom_color:
        options["custom_color"] = args.custom_color
    readable, unreadable = images.listed(args.image_path)
    project.set_device(args.device)
    build = project.Builder(cfg)
    model = project.trained_model(build, args.model_path)
    predict(
        model,
        model_path=args.model_path,
        transforms=Compose(build.val_transforms),
        image_list=readable,
        image_dir=images.root(args.image_path),
        save_dir=args.save_dir,
        **options,
    )
    return flags.report(images.left_out(path) for path in unreadable)
