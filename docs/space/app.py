"""The page of `basicsr app` as a Hugging Face Space."""

from ggkm_plugin.app.page import serve

if __name__ == '__main__':
    serve(host='0.0.0.0', port=7860)
