"""The page's texts in English and Chinese; the visitor's browser chooses the language."""

from __future__ import annotations

import gradio

_ENGLISH = {
    "intro": "Drop a picture or a video, or use the camera. The files stay on this server and are removed after "
    "{minutes} minutes. At most {megabytes} MB and {megapixels} million pixels a file, and {seconds} seconds a video.",
    "runtime": "Runtime and precision",
    "opacity": "Opacity of the colors",
    "unknown_below": "Mark pixels below this probability as unknown (0: off)",
    "view": "View",
    "picture": "Picture",
    "video": "Video",
    "result": "Result",
    "start": "Segment the video",
    "stop": "Stop",
}

_CHINESE = {
    "intro": "拖入图片或视频，或使用摄像头。文件只保存在这台服务器上，{minutes} 分钟后删除。"
    "每个文件不超过 {megabytes} MB、{megapixels} 百万像素，视频不超过 {seconds} 秒。",
    "runtime": "运行时与精度",
    "opacity": "颜色不透明度",
    "unknown_below": "概率低于此值的像素标为未知（0 表示关闭）",
    "view": "显示",
    "picture": "图片",
    "video": "视频",
    "result": "结果",
    "start": "分割视频",
    "stop": "停止",
}


def translations(**limits: int) -> gradio.I18n:
    """The texts for Gradio, with these limits in the introduction."""
    english, chinese = ({key: text.format(**limits) for key, text in texts.items()} for texts in (_ENGLISH, _CHINESE))
    return gradio.I18n(**{"en": english, "zh": chinese, "zh-CN": chinese, "zh-TW": chinese})
