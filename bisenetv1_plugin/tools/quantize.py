"""Export trained weights in 8 bits: post-training quantisation of the convolutions, calibrated on training images.

The result is for `bisenetv1 infer --precision int8` on the CPU. Paddle's quantiser reads programs of the kind that
Paddle 2.6 and 3.0 write and later ones do not; what it made runs with those as well.
"""

import os
import tempfile

from bisenetv1_plugin.tools.errors import UserError

SUMMARY = "export trained weights in 8 bits"


def add_arguments(parser):
    parser.add_argument("--config", required=True, help="the YAML configuration")
    parser.add_argument("--model_path", required=True, help="the trained weights, a .pdparams file")
    parser.add_argument("--save_dir", default="./output/quantized_model", help="folder of the exported model")
    parser.add_argument("--batch_nums", type=int, default=10, help="batches of the train_dataset to calibrate with")
    parser.add_argument("--batch_size", type=int, default=1, help="images in each of them")


def run(args):
    # For Paddle 3.0 to write the older kind of program; Paddle reads it when it is imported.
    os.environ.update(FLAGS_enable_pir_api="0")
    from bisenetv1_plugin.tools import project

    cfg = project.load_config(args.config)
    for part in ("train_dataset", "val_dataset"):
        if not getattr(cfg, f"{part}_cfg"):
            raise UserError(
                f"{args.config} has no {part}; it takes both, to calibrate and for the deployed transforms."
            )
    # Whole images, as in deployment: crops have another context, and with it other ranges.
    cfg.dic["train_dataset"]["transforms"] = cfg.dic["val_dataset"].get("transforms")
    project.set_device("cpu")
    build = project.Builder(cfg)
    model = project.trained_model(build, args.model_path)
    images, needed = build.train_dataset, args.batch_nums * args.batch_size
    if not 0 < needed <= len(images):
        raise UserError(f"--batch_nums and --batch_size ask for {needed} images; the train_dataset has {len(images)}.")
    save(model, args.save_dir, cfg.val_dataset_cfg.get("transforms"), images, args.batch_nums, args.batch_size)
    print(f"The quantised model is in {args.save_dir}")


def save(model, save_dir, transforms, images, batch_nums, batch_size):
    """Write the quantised program, its weights (int8) and `deploy.yaml` into `save_dir`.

    Args:
        model (paddle.nn.Layer): in evaluation mode; takes `[N, 3, H, W]` float32.
        save_dir (str): the folder; files of an earlier export there are replaced, once the new ones are complete.
        transforms (list[dict]): the validation transforms of the configuration.
        images (paddle.io.Dataset): dicts with `img` `[3, H, W]` float32.
        batch_nums, batch_size (int): how many of them to calibrate with.

    Raises:
        UserError: this Paddle writes no program that its quantiser can read; nothing is written then.
    """
    import paddle
    import yaml

    from bisenetv1_plugin.tools import export

    os.makedirs(save_dir, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=save_dir, prefix=".export-") as beside:
        try:
            export.save(model, beside, transforms)
        except TypeError as error:
            if "got Variable" not in str(error):  # Paddle 3.2's and 3.3's words for an operator of the older kind
                raise
            raise UserError(_WRONG_PADDLE.format(paddle.__version__)) from error
        if not os.path.isfile(os.path.join(beside, "model.pdmodel")):
            raise UserError(_WRONG_PADDLE.format(paddle.__version__))
        quantised = os.path.join(beside, "int8")
        paddle.enable_static()
        try:
            _quantise(beside, quantised, images, batch_nums, batch_size)
        finally:
            paddle.disable_static()
        with open(os.path.join(beside, "deploy.yaml"), encoding="utf-8") as file:
            deploy = yaml.safe_load(file)
        deploy["Deploy"]["precision"] = "int8"
        with open(os.path.join(quantised, "deploy.yaml"), "w", encoding="utf-8") as file:
            yaml.safe_dump(deploy, file)
        export.move(quantised, save_dir)


_WRONG_PADDLE = (
    "Paddle {} writes no program of the kind that its quantiser reads. Quantise with Paddle 2.6.2 or 3.0.0; "
    "what they make runs with this Paddle as well."
)


def _quantise(source, target, images, batch_nums, batch_size):
    """Paddle's own quantiser, from one folder to another."""
    import paddle
    from paddle.static.quantization import PostTrainingQuantization

    class Images(paddle.io.Dataset):
        def __len__(self):
            return batch_nums * batch_size

        def __getitem__(self, index):
            return images[index * (len(images) // len(self))]["img"]  # from the whole length of the list

    place = paddle.CPUPlace()
    with paddle.static.program_guard(paddle.static.Program()):
        x = paddle.static.data("x", [None, 3, None, None], "float32")
    loader = paddle.io.DataLoader(Images(), feed_list=[x], places=[place], batch_size=batch_size, return_list=False)
    files = {"model_filename": "model.pdmodel", "params_filename": "model.pdiparams"}
    quantisation = PostTrainingQuantization(
        executor=paddle.static.Executor(place),
        model_dir=source,
        data_loader=loader,
        batch_size=batch_size,
        batch_nums=batch_nums,
        algo="hist",
        quantizable_op_type=["conv2d"],
        onnx_format=True,  # weights in int8, a quarter of the space
        **files,
    )
    quantisation.quantize()
    quantisation.save_quantized_model(target, **files)
