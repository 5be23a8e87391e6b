"""Export trained weights for Paddle Inference, as PaddleSeg's tools/export.py does."""

import os
import shutil
import tempfile

from bisenetv1_plugin.tools import flags
from bisenetv1_plugin.tools.errors import UserError

SUMMARY = "export trained weights for deployment"


def add_arguments(parser):
    flags.add_config_arguments(parser)
    parser.add_argument("--save_dir", default="./output/inference_model", help="folder of the exported model")
    parser.add_argument("--input_shape", nargs=4, type=int, metavar=("N", "C", "H", "W"), help="default: any size")
    parser.add_argument(
        "--output_op", default="argmax", choices=["argmax", "softmax", "none"], help="what to append; none: logits"
    )


def run(args):
    from bisenetv1_plugin.tools import project

    cfg = project.load_config(args.config)
    if not cfg.val_dataset_cfg:
        raise UserError(f"{args.config} has no val_dataset, whose transforms the deployed model needs.")
    project.set_device(args.device)
    model = project.trained_model(project.Builder(cfg), args.model_path)
    save(model, args.save_dir, cfg.val_dataset_cfg.get("transforms"), args.input_shape, args.output_op)
    print(f"The inference model is in {args.save_dir}")


def save(model, save_dir, transforms, input_shape=None, output_op="argmax"):
    """Write the model's static program, its weights and `deploy.yaml` into `save_dir`.

    Args:
        model (paddle.nn.Layer): in evaluation mode; takes `[N, C, H, W]` float32.
        save_dir (str): the folder; files of an earlier export there are replaced, once the new ones are complete.
        transforms (list[dict]): the validation transforms of the configuration.
        input_shape (list[int], optional): `[N, C, H, W]`. Default: any batch, 3 channels, any size.
        output_op (str): 'argmax' (int32 `[N, H, W]`), 'softmax' (`[N, classes, H, W]`) or 'none' (logits).
    """
    import paddle
    import yaml
    from paddleseg.deploy.export import WrappedModel

    shape = input_shape or [None, 3, None, None]
    wrapped = model if output_op == "none" else WrappedModel(model, output_op)
    wrapped.eval()
    static = paddle.jit.to_static(wrapped, input_spec=[paddle.static.InputSpec(shape=shape, dtype="float32")])
    os.makedirs(save_dir, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=save_dir, prefix=".export-") as beside:
        paddle.jit.save(static, os.path.join(beside, "model"))
        # Paddle 3 writes the program as JSON; a deploy.yaml that names .pdmodel would not be found.
        program = "model.json" if os.path.exists(os.path.join(beside, "model.json")) else "model.pdmodel"
        deploy = {
            "model": program,
            "params": "model.pdiparams",
            "transforms": transforms,
            "input_shape": shape,
            "output_op": output_op,
            "output_dtype": "int32" if output_op == "argmax" else "float32",
        }
        with open(os.path.join(beside, "deploy.yaml"), "w", encoding="utf-8") as file:
            yaml.safe_dump({"Deploy": deploy}, file)
        for name in sorted(os.listdir(beside), key=lambda name: name == "deploy.yaml"):
            shutil.move(os.path.join(beside, name), os.path.join(save_dir, name))
