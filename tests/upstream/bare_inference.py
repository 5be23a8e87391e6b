"""Paddle Inference on a machine without the plugin: python bare_inference.py EXPORTED IMAGES.txt SAVE_DIR

Checks an exported folder: reads its deploy.yaml unchanged, and runs without oneDNN and memory optimization.
"""

import os
import sys

import numpy as np
import yaml
from paddle.inference import Config, create_predictor
from paddleseg import transforms
from PIL import Image

exported, images, save_dir = sys.argv[1:]
with open(os.path.join(exported, "deploy.yaml")) as file:
    deploy = yaml.safe_load(file)["Deploy"]
config = Config(os.path.join(exported, deploy["model"]), os.path.join(exported, deploy["params"]))
config.disable_gpu()
config.disable_mkldnn()
predictor = create_predictor(config)
prepare = transforms.Compose([getattr(transforms, t.pop("type"))(**t) for t in deploy["transforms"]])
os.makedirs(save_dir)
with open(images) as file:
    paths = file.read().split()
for path in paths:
    image = np.ascontiguousarray(prepare({"img": path})["img"][None], dtype="float32")
    handle = predictor.get_input_handle(predictor.get_input_names()[0])
    handle.reshape(image.shape)
    handle.copy_from_cpu(image)
    predictor.run()
    mask = predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu()[0]
    Image.fromarray(mask.astype("uint8")).save(
        os.path.join(save_dir, os.path.splitext(os.path.basename(path))[0] + ".png")
    )
