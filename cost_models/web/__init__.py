"""Web: where onnxruntime-web, Node.js and Chromium are, and processes that run models in them."""
