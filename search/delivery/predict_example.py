"""Program that is delivered with an artifact, which needs no package of this project."""

PROGRAM = '''\
"""Classify an image: python predict.py IMAGE. Needs onnxruntime, numpy and pillow only."""
import json, pathlib, sys, numpy, onnxruntime, PIL.Image, PIL.ImageOps

model = onnxruntime.InferenceSession(pathlib.Path(__file__).with_name("model.onnx"))
about = {k: json.loads(v) for k, v in model.get_modelmeta().custom_metadata_map.items()}
batch, channels, size, _ = model.get_inputs()[0].shape
image = PIL.Image.open(sys.argv[1]).convert("L" if channels == 1 else "RGB")
pixels = numpy.asarray(PIL.ImageOps.fit(image, (size, size), PIL.Image.Resampling.BICUBIC))
pixels = (pixels.reshape(size, size, channels) / 255 - about["mean"]) / about["std"]
images = numpy.repeat(pixels.transpose(2, 0, 1)[None].astype("float32"), batch, 0)
(logits,) = model.run(None, {"images": images})
print(about["class_names"][logits[0].argmax()])
'''
