package import Jobs

/// What an entry of a settings file gets when it does not say otherwise: the values of `DEFUALT_PRIORITY` (or
/// `DEFAULT_PRIORITY`) and `DEFUALT_CHANNEL` (or `DEFAULT_CHANNEL`).
package struct CatalogDefaults: Sendable, Hashable {
    package var priority: Priority
    package var channel: String

    package init(priority: Priority = .default, channel: String = "default") {
        self.priority = priority
        self.channel = channel
    }
}
