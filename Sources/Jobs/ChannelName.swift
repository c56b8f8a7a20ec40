/// A channel's name becomes part of queue names and routing keys.
package enum ChannelName {
    /// - Returns: false unless `name` is 1-64 characters of a-z, 0-9, dash and underscore.
    package static func isValid(_ name: String) -> Bool {
        (1...64).contains(name.utf8.count)
            && name.utf8.allSatisfy { (0x61...0x7a).contains($0) || (0x30...0x39).contains($0) || $0 == 0x2d || $0 == 0x5f }
    }
}
