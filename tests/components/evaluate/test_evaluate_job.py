from components.evaluate.config import EvaluateConfig
from components.evaluate.job import evaluate


def test_x(config: EvaluateConfig):
    evaluate(config)
    import shutil

    shutil.rmtree("/tmp/w/ev", ignore_errors=True)
    shutil.copytree(config.output_uri, "/tmp/w/ev")
