"""placeholder until control lands"""
class Control:
    def __init__(self, d): pass
    async def open(self): pass
    async def close(self): pass
