"""Packaging: the distribution `bisenetv1-plugin`, with its start-up files and its configs inside the wheel."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "bisenetv1_plugin/__init__.py").read_text(encoding="utf-8"))[1]

# One line each, which Python runs at every start: `.pth` in every Python up to 3.17, `.start` (PEP 829) from 3.15.
STARTUP_FILES = {
    "bisenetv1_plugin.pth": "import bisenetv1_plugin; bisenetv1_plugin.install()\n",
    "bisenetv1_plugin.start": "bisenetv1_plugin:install\n",
}

CONFIGS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "configs").rglob("*.y*ml"))
PAGES = ["README_CN.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"]
PAGES += sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))


class BuildWithStartupFiles(build_py):
    """Adds the start-up files to the root of the wheel, and the configs to the package."""

    def run(self):
        super().run()
        if self.editable_mode:
            # The folder that becomes the editable wheel. The package and the configs are not copied.
            root = Path(self.get_finalized_command("install").install_lib)
        else:
            root = Path(self.build_lib)
            for name in CONFIGS:
                target = root / "bisenetv1_plugin" / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, target)
        root.mkdir(parents=True, exist_ok=True)
        for name, line in STARTUP_FILES.items():
            (root / name).write_text(line, encoding="utf-8")

    def get_source_files(self):
        """Adds the configs and the pages to the files of the sdist."""
        return [*super().get_source_files(), *CONFIGS, *PAGES]


ENTRY_POINTS = {
    "console_scripts": ["bisenetv1 = bisenetv1_plugin.__main__:main"],
    # plugin.py reads one group for each registry of PaddleSeg. The name of an entry is the YAML `type`.
    "paddleseg.models": ["BiSeNetV1 = bisenetv1_plugin.models.bisenetv1:BiSeNetV1"],
    "paddleseg.backbones": [
        *(f"ResNet{depth}_v1b = bisenetv1_plugin.backbones.resnet:ResNet{depth}_v1b" for depth in (18, 34, 50, 101)),
        *(f"ResNet{depth}_v1c = bisenetv1_plugin.backbones.resnet:ResNet{depth}_v1c" for depth in (18, 50, 101)),
        "ResNet101_v1s = bisenetv1_plugin.backbones.resnet:ResNet101_v1s",
        "Xception39 = bisenetv1_plugin.backbones.xception:Xception39",
    ],
    "paddleseg.losses": ["BiSeNetV1Loss = bisenetv1_plugin.losses.ohem:BiSeNetV1Loss"],
    "paddleseg.datasets": [
        "SyntheticStreetScenes = bisenetv1_plugin.datasets.synthetic:SyntheticStreetScenes",
    ],
    "paddleseg.transforms": [
        *(
            f"{name} = bisenetv1_plugin.transforms.geometry:{name}"
            for name in ("CenterPadding", "MMSegRandomCrop", "RandomMirrorSwap")
        ),
        *(
            f"{name} = bisenetv1_plugin.transforms.color:{name}"
            for name in ("CoinCheungColorJitter", "MMSegPhotoMetricDistortion")
        ),
    ],
    "paddleseg.optimizers": ["MomentumExpWarmup = bisenetv1_plugin.optimizers.warmup:MomentumExpWarmup"],
}

# Requirements of training, for the extras `cpu` and `gpu`. On Python 3.14 pip refuses both: Paddle has no wheel there.
TRAINING = [
    # The toolkit this is a plugin for. 2.8.0, PyPI's newest, pins opencv-python<=4.6.0, which is built against NumPy 1
    # and does not import with NumPy 2. NumPy 1 has no wheel for Python 3.13, and a wheel cannot lift another's pin. So
    # users of 3.13 run `pip install --no-deps paddleseg==2.8.0`, and this list has what PaddleSeg imports.
    'paddleseg>=2.8.0; python_version < "3.13"',
    'numpy<2; python_version < "3.13"',
    *(f'{name}; python_version >= "3.13"' for name in ("visualdl>=2.2.0", "scipy", "scikit-learn", "requests", "six")),
    # protobuf 7 dropped FieldDescriptor.label, without which paddle.distributed.fleet of Paddle 2.6 cannot start.
    "protobuf<7",
    # Writes ONNX. No upper bound: Paddle 2.6 needs 1.3.1 and Paddle 3 needs 2.1.0, and no marker can test for Paddle's
    # version. A lower bound: Python 3.13 has no wheel of either, and pip would install 0.9.2, which works with neither.
    'paddle2onnx>=1.3.1; python_version < "3.13"',
]

setup(
    name="bisenetv1-plugin",
    version=VERSION,
    description="BiSeNetV1 for PaddleSeg: pip install, and PaddleSeg's own tools train, evaluate, export and deploy it",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    keywords="semantic segmentation, BiSeNet, PaddlePaddle, PaddleSeg, real time",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Natural Language :: Chinese (Simplified)",
        "Natural Language :: English",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
    packages=find_packages(include=["bisenetv1_plugin*"]),
    # `py.typed`: type checkers read the annotations.
    package_data={"bisenetv1_plugin": ["py.typed", "datasets/own/recipe.yml"]},
    # No upper bound: only training needs wheels of Paddle and PaddleSeg, which the newest Pythons lack.
    python_requires=">=3.8",
    # Requirements for running an exported network. Paddle and PaddleSeg are not among them: they take 800 MB, and need
    # NumPy 1 below Python 3.13. An installed PaddleSeg is kept as it is.
    install_requires=[
        # The oldest tested ONNX Runtime for Python 3.9 needs 1.21. NumPy 1 and 2 both work.
        "numpy>=1.21",
        # Reads, resizes and shows pictures. Not opencv-python-headless, which has no window for `--show`. Also,
        # paddleseg requires opencv-python, and the two packages overwrite each other's files.
        "opencv-python>=4.5.1",
        # Writes masks with a palette, reads the orientation of photographs, draws legends.
        "pillow",
        # Configurations and deploy.yaml are YAML.
        "pyyaml",
        # Progress bars.
        "tqdm",
        # The text of legends, the figures of the demo and the training curves. From 3.7 on, legends can be outside.
        "matplotlib>=3.7",
    ],
    extras_require={
        # Training, evaluating and exporting. Paddle's CPU and its GPU wheel are different packages.
        "cpu": ["paddlepaddle>=2.6.2", *TRAINING],
        "gpu": ["paddlepaddle-gpu>=2.6.2", *TRAINING],
        # Running an exported network without Paddle: two runtimes for its ONNX model.
        "deploy": [
            "onnxruntime",
            "openvino",
            # Reads and writes videos.
            "av",
            # Removes the argmax for `Segmenter`'s scores.
            "onnx",
        ],
        # The name that version 0.2.0 had for it.
        "video": ["av"],
        # Quantizers to 8 bits: NNCF for OpenVINO. ONNX Runtime's own imports ml_dtypes without declaring it.
        "quantize": ["nncf", "openvino", "onnx", "onnxruntime", "ml_dtypes"],
        # The page of `bisenetv1 app`; needs Python 3.10. Gradio 6 moved half of its options, and 6.31 is the oldest
        # tested version.
        "app": ["gradio>=6.31,<7"],
        # Many machines: `infer --ray` (Ray Data) and examples/ray/serve.py (Ray Serve). Ray's own extras install what
        # each imports: PyArrow and pandas; FastAPI, uvicorn and gRPC. 2.60 is the oldest tested version.
        "ray": [
            "ray[data,serve]>=2.60",
            # PyArrow 26 needs NumPy 2 and does not declare it; below Python 3.13 PaddleSeg's NumPy is 1.
            'pyarrow<26; python_version < "3.13"',
        ],
        # `bisenetv1 serve`; needs Python 3.10.
        "serve": [
            # Routes, parameters and /docs. From 0.115 on, a model can declare all query parameters.
            "fastapi>=0.115",
            # The HTTP server.
            "uvicorn",
            # Reads forms, for FastAPI.
            "python-multipart",
            # /docs without a CDN, from which FastAPI's own page loads its script.
            "fastapi-offline",
            # /metrics.
            "prometheus-client",
        ],
        # Reads COCO's polygons and run lengths. Label images do not need it.
        "coco": ["pycocotools"],
        # Writes and shows curves. It reports a full disk; there the writing thread of tensorboardX would end, and the
        # training would wait for it forever.
        "tensorboard": ["tensorboard"],
        "test": [
            # Installs packaging as well, with which tests/test_packaging.py reads the markers above.
            "pytest",
            # In two processes on two cores, the suite takes half the time.
            "pytest-xdist",
            # Generates the files, requests and arguments of tests/fuzz.
            "hypothesis",
            # Writes and reads the videos of tests/inference/test_video.py.
            "av",
            # Check the polygons of tests/inference/test_regions.py.
            "geojson",
            "shapely",
            # Tests the page in a browser, if Chromium is installed. It does not download a browser.
            "selenium",
            "ruff",
            # American spelling; pyproject.toml has the settings.
            "codespell",
            "mypy",
            "build",
            "twine",
        ],
        "convert": [
            # Reads PyTorch's checkpoints. Before 2.6, a crafted file could run code even with weights_only=True.
            "torch>=2.6",
            # Reads and writes .safetensors.
            "safetensors",
        ],
        # PyTorch's BiSeNetV1 to compare with; `pip install --no-deps hairtone` adds the face-parsing network (it asks
        # for an opencv-python that paddleseg 2.8.0 excludes, and its network needs none).
        "reference": [
            "mmsegmentation==1.2.2",
            "mmengine",
            # mmsegmentation 1.2.2 refuses 2.2. The lite package has no compiled operators, which are not needed.
            "mmcv-lite<2.2",
            # mmsegmentation imports these without declaring them.
            "ftfy",
            "regex",
        ],
    },
    entry_points=ENTRY_POINTS,
    cmdclass={"build_py": BuildWithStartupFiles},
    zip_safe=False,
)
