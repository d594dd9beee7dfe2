class DetailRenderer:
    def __init__(self, picture, shares): self.p=picture
    def render(self, decoded, reconstruction, backward, known, order): return decoded
