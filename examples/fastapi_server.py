"""Serves a detector over HTTP, any number of requests at a time. Copy this file where you need it.

pip install fastapi uvicorn    (beside keras_retinaface, as its README says)
python examples/fastapi_server.py [MODEL] [PORT]
curl --data-binary @photo.jpg http://127.0.0.1:8000/detect

A request is the bytes of a picture; a picture that cannot be read is answered with 400 and one line, one that is too
large with 413. MODEL is whatever `Detector` takes, mobilenet025 by default. One session serves all threads: as many
calls run as there are cores, each on one, and further ones wait in line.
"""

from __future__ import annotations

import asyncio
import os
import sys
from concurrent import futures

import fastapi
import uvicorn

from keras_retinaface import Detector
from keras_retinaface.media import image_file

LARGEST = 32 << 20  # bytes of a picture


def make(model: str = "mobilenet025", num_threads: int | None = None) -> fastapi.FastAPI:
    """Builds the application."""
    detector = Detector(model, num_threads=1)
    threads = futures.ThreadPoolExecutor(num_threads or os.cpu_count())

    def work(content: bytes) -> list[dict]:
        return [face.to_dict() for face in detector.detect(image_file.decode(content, "picture"))]

    app = fastapi.FastAPI()

    @app.post("/detect")
    async def detect(request: fastapi.Request) -> dict:
        content = bytearray()
        async for part in request.stream():
            content += part
            if len(content) > LARGEST:
                raise fastapi.HTTPException(413, f"picture: more than {LARGEST} bytes")
        try:
            # Not in the loop's own thread, which would let nobody else in meanwhile.
            faces = await asyncio.get_running_loop().run_in_executor(threads, work, bytes(content))
        except ValueError as error:
            raise fastapi.HTTPException(400, " ".join(str(error).split())) from error
        return {"faces": faces}

    return app


if __name__ == "__main__":
    uvicorn.run(make(*sys.argv[1:2]), port=int(sys.argv[2]) if len(sys.argv) > 2 else 8000)
