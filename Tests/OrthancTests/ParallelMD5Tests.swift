import Foundation
import Testing

@testable import Orthanc

@Suite struct ParallelMD5Tests {
    private func part(_ count: Int, _ seed: Int) -> Data {
        Data((0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ seed) })
    }

    @Test(
        "What libcrypto says of each piece, whatever their number and their lengths",
        arguments: [0, 1, 55, 56, 57, 63, 64, 65, 119, 120, 121, 128, 1000, 70_000])
    func lengths(length: Int) {
        for count in 0...17 {
            let parts = (0..<count).map { part(length + ($0 * 13) % 29, $0) }
            #expect(ParallelMD5.hexadecimal(of: parts) == parts.map { ContentDigest.hexadecimal(.md5, of: $0) })
        }
    }

    @Test("Pieces of very different lengths")
    func mixed() {
        let parts = [100_000, 0, 64, 5, 200, 63, 4096, 77_777, 1, 128].enumerated().map { part($1, $0) }
        #expect(ParallelMD5.hexadecimal(of: parts) == parts.map { ContentDigest.hexadecimal(.md5, of: $0) })
    }

    @Test("A slice of other bytes counts as what it shows")
    func slices() {
        let whole = part(1000, 3)
        let parts = (1...4).map { whole.dropFirst($0 * 7).dropLast($0) }
        #expect(ParallelMD5.hexadecimal(of: parts) == parts.map { ContentDigest.hexadecimal(.md5, of: $0) })
    }
}
