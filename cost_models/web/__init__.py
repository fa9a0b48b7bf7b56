"""Web: where runtimes of the web, Node.js and Chromium are, and processes that run models there."""
