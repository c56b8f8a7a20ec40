import Foundation
import Orthanc
import Testing

struct ContentDigestTests {
    @Test func matchesTheKnownValues() {
        #expect(ContentDigest.hexadecimal(.md5, of: Data()) == "d41d8cd98f00b204e9800998ecf8427e")
        #expect(ContentDigest.hexadecimal(.md5, of: Data("abc".utf8)) == "900150983cd24fb0d6963f7d28e17f72")
        #expect(
            ContentDigest.hexadecimal(.sha256, of: Data("abc".utf8)) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        )
    }
}
