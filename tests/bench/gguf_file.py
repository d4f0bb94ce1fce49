"""Just enough of GGUF (version 3, little-endian) for the tools of this folder: what is in a file, and
writing another one."""
import collections
import struct

UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY, UINT64 = 4, 5, 6, 7, 8, 9, 10
SIMPLE = {0: "<B", 1: "<b", 2: "<H", 3: "<h", UINT32: "<I", INT32: "<i", FLOAT32: "<f", BOOL: "<?",
          UINT64: "<Q", 11: "<q", 12: "<d"}
F32, Q4_K, Q6_K = 0, 12, 14
# type: elements and bytes of a block
BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34),
          10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210),
          16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110),
          22: (256, 82), 23: (256, 136), 29: (256, 56), 30: (1, 2), 34: (256, 54), 35: (256, 66),
          39: (32, 17)}
ALIGNMENT = 32

Tensor = collections.namedtuple("Tensor", "name shape type offset bytes")


def tensor_bytes(shape, kind):
    elements, size = BLOCKS[kind]
    count = 1
    for n in shape:
        count *= n
    return count // elements * size


class Reader:
    """keys: name → (type, value); a string is bytes, an array (element type, list). tensors: a list."""

    def __init__(self, path):
        with open(path, "rb") as self.file:
            magic, version, n_tensors, n_keys = struct.unpack("<4sIQQ", self.file.read(24))
            if magic != b"GGUF" or version < 2:
                raise ValueError(f"{path}: not a GGUF file of version 2 or 3")
            self.keys = {}
            for _ in range(n_keys):
                name = self.value(STRING).decode()
                kind = self.value(UINT32)
                self.keys[name] = (kind, self.value(kind))
            self.tensors = []
            for _ in range(n_tensors):
                name = self.value(STRING).decode()
                shape = [self.value(UINT64) for _ in range(self.value(UINT32))]
                kind, offset = self.value(UINT32), self.value(UINT64)
                size = tensor_bytes(shape, kind)
                self.tensors.append(Tensor(name, shape, kind, offset, size))
            alignment = self.keys.get("general.alignment", (UINT32, ALIGNMENT))[1]
            self.data = (self.file.tell() + alignment - 1) // alignment * alignment

    def value(self, kind):
        if kind == STRING:
            return self.file.read(self.value(UINT64))
        if kind == ARRAY:
            of, count = self.value(UINT32), self.value(UINT64)
            return of, [self.value(of) for _ in range(count)]
        form = SIMPLE[kind]
        return struct.unpack(form, self.file.read(struct.calcsize(form)))[0]

    def bytes_of_a_token(self):
        """What one decoded token reads of the weights: all of them but the table of embeddings,
        unless that is the head too."""
        names = {t.name for t in self.tensors}
        return sum(t.bytes for t in self.tensors
                   if t.name != "token_embd.weight" or "output.weight" not in names)


def pack(kind, value):
    if kind == STRING:
        return struct.pack("<Q", len(value)) + value
    if kind == ARRAY:
        of, values = value
        return struct.pack("<IQ", of, len(values)) + b"".join(pack(of, v) for v in values)
    return struct.pack(SIMPLE[kind], value)


def write(path, keys, tensors, contents):
    """tensors: (name, shape, type); contents(name, shape, type) yields the bytes of one."""
    head = [struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(keys))]
    for name, (kind, value) in keys.items():
        head.append(pack(STRING, name.encode()) + struct.pack("<I", kind) + pack(kind, value))
    offset = 0
    for name, shape, kind in tensors:
        head.append(pack(STRING, name.encode()) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
                    + struct.pack("<IQ", kind, offset))
        offset += (tensor_bytes(shape, kind) + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
    with open(path, "wb") as file:
        file.write(b"".join(head))
        for name, shape, kind in tensors:
            file.write(bytes(-file.tell() % ALIGNMENT))
            for part in contents(name, shape, kind):
                file.write(part)
        file.write(bytes(-file.tell() % ALIGNMENT))
