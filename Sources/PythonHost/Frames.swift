import Foundation
import Jobs

/// Frames of the host protocol: four bytes of length (big endian), then one JSON object.
enum Frames {
    /// Bytes of the longest frame that is read; the same as in frames.py.
    static let limit = 256 * 1024 * 1024

    static func encode(_ request: HostRequest) throws -> Data {
        let body = try JSONCoding.encode(request)
        var frame = Data(capacity: body.count + 4)
        withUnsafeBytes(of: UInt32(body.count).bigEndian) { frame.append(contentsOf: $0) }
        frame.append(contentsOf: body)
        return frame
    }

    static func length(_ header: Data) -> Int {
        header.reduce(0) { $0 << 8 | Int($1) }
    }
}
