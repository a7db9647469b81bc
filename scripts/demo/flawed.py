"""Model runtimes for MLServer that have one flaw each, for the demonstration of rollouts.

Each works in every other way: it starts, is ready, and answers what it is asked.
"""

import asyncio

from mlserver.errors import MLServerError
from mlserver_sklearn import SKLearnModel

FAILS_EVERY = 20
SLOWER_BY_SECONDS = 0.04


class Failing(SKLearnModel):
    """Fails for one request in twenty."""

    count = 0

    async def predict(self, payload):
        self.count += 1
        if self.count % FAILS_EVERY == 0:
            raise MLServerError("the model ran into a case it does not know", 500)
        return await super().predict(payload)


class Slow(SKLearnModel):
    """Right, but late, as a much larger model would be."""

    async def predict(self, payload):
        await asyncio.sleep(SLOWER_BY_SECONDS)
        return await super().predict(payload)


class Wrong(SKLearnModel):
    """Has its labels mixed up, as after a conversion that went wrong."""

    async def predict(self, payload):
        answer = await super().predict(payload)
        for output in answer.outputs:
            output.data.root = [(digit + 1) % 10 for digit in output.data.root]
        return answer
