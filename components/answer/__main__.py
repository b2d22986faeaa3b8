"""Flags -> config -> job."""

from components.answer.config import AnswerConfig
from components.answer.job import answer
from components.shared.launch import launch

if __name__ == "__main__":
    launch("answer", AnswerConfig, answer)
