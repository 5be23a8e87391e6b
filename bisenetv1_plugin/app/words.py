"""The page's texts in the languages that it speaks; the visitor's browser chooses."""

from __future__ import annotations

import gradio

_ENGLISH = {
    "intro": "Drop a picture or a video, or use the camera. The files stay on this server and are removed after "
    "{minutes} minutes. At most {megabytes} MB a file, {megapixels} million pixels, and {seconds} seconds of video.",
    "runtime": "Runtime and precision",
    "opacity": "Opacity of the colors",
    "unknown_below": "Unknown below this probability; 0: never",
    "view": "Shown",
    "picture": "Picture",
    "video": "Video",
    "result": "Result",
    "start": "Segment the video",
    "stop": "Stop",
}

_CHINESE = {
    "intro": "拖入图片或视频，或使用摄像头。文件只保存在这台服务器上，{minutes} 分钟后删除。"
    "每个文件最大 {megabytes} MB，{megapixels} 百万像素，视频最长 {seconds} 秒。",
    "runtime": "运行时与精度",
    "opacity": "颜色不透明度",
    "unknown_below": "概率低于此值视为未知；0：从不",
    "view": "显示",
    "picture": "图片",
    "video": "视频",
    "result": "结果",
    "start": "分割视频",
    "stop": "停止",
}


def words(**figures: int) -> gradio.I18n:
    """A `gradio.I18n`, with the figures of the introduction put in."""
    english, chinese = ({key: text.format(**figures) for key, text in texts.items()} for texts in (_ENGLISH, _CHINESE))
    return gradio.I18n(**{"en": english, "zh": chinese, "zh-CN": chinese, "zh-TW": chinese})
