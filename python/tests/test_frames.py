import random
import unittest

from host import frames


class FramesTest(unittest.TestCase):
    def test_messages_survive_any_cut(self):
        messages = [{"text": "ü\u0000\U0001F600\"\\"}, {}, {"list": [1, 2.5, None, True]}, {"long": "x" * 100_000}]
        stream = b"".join(frames.encode(message) for message in messages)
        generator = random.Random(7)
        for _ in range(20):
            buffer, received, position = frames.FrameBuffer(), [], 0
            while position < len(stream):
                size = generator.choice([1, 2, 3, 5, 1000, 100_000])
                received += buffer.feed(stream[position:position + size])
                position += size
            self.assertEqual(received, messages)

    def test_what_is_no_frame_is_refused(self):
        for body in (b"[1]", b"{", b"\xff", b"null", b"[" * 100_000):
            with self.assertRaises(frames.ProtocolError, msg=body[:10]):
                frames.FrameBuffer().feed(len(body).to_bytes(4, "big") + body)
        with self.assertRaises(frames.ProtocolError):
            frames.FrameBuffer().feed(b"\xff\xff\xff\xff")

    def test_noise_never_hangs_or_crashes(self):
        generator = random.Random(11)
        for _ in range(300):
            buffer = frames.FrameBuffer()
            try:
                for _ in range(5):
                    buffer.feed(bytes(generator.randrange(256) for _ in range(generator.randrange(40))))
            except frames.ProtocolError:
                pass

    def test_lone_surrogates_are_replaced(self):
        self.assertEqual(frames.FrameBuffer().feed(frames.encode({"name": "a\udcffb"})), [{"name": "a?b"}])


if __name__ == "__main__":
    unittest.main()
