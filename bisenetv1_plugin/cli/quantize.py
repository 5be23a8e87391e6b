"""Export trained weights in 8 bits: post-training quantisation of the convolutions, calibrated on training images.

The result is for `bisenetv1 infer --precision int8` on the CPU. Paddle's quantiser reads programs of the kind that
Paddle 2.6 and 3.0 write and later ones do not; what it made runs with those as well.
"""

import os

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
    from bisenetv1_plugin import project
    from bisenetv1_plugin.deploy import quantize

    # Images to calibrate with, and the transforms of the deployed model.
    cfg = project.load_config(args.config, needs=["train_dataset", "val_dataset"])
    transforms = cfg.val_dataset_cfg.get("transforms")
    # Whole images, as in deployment: crops have another context, and with it other ranges.
    cfg.dic["train_dataset"]["transforms"] = transforms
    project.set_device("cpu")
    build = project.Builder(cfg)
    images = build.train_dataset
    model = project.trained_model(build, args.model_path)
    quantize.save(model, args.save_dir, transforms, images, args.batch_nums, args.batch_size)
    print(f"The quantised model is in {args.save_dir}")
