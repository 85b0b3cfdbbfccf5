"""Settings of the study's two verbs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ssl_colorize.config import Settings
from ssl_colorize.study.protocol import Protocol


class ServeSettings(Protocol):
    """Settings of `ssl-colorize study serve`, beside those of a session.

    Attributes:
        photos: the real photos: what --data takes elsewhere, read whole.
        methods: "name=RUN", "name=FOLDER" of colored photos under the same names, "gray" or "random".
        temperature: of the networks' annealed mean; None is each checkpoint's own.
        limit: prepare at most so many photos.
        device: auto, cpu or cuda.
        host: address to listen at; 0.0.0.0 is every one of this machine.
        port: to listen at; 0 takes a free one.
        contact: whom participants may ask, for the first page.
    """

    photos: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    temperature: float | None = Field(None, ge=0)
    limit: int | None = Field(None, ge=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    contact: str = ""


class ReportSettings(Settings):
    """Settings of `ssl-colorize study report`.

    Attributes:
        study: folder of a `study serve` run.
        vigilance: a session counts if at least this share of its vigilance pairs is answered rightly.
        unfinished: count sessions that were not finished as well.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """

    study: str
    vigilance: float = Field(0.75, ge=0, le=1)
    unfinished: bool = False
    resamples: int = Field(10_000, ge=100, le=1_000_000)
    seed: int = 0
