package import Foundation
import Synchronization

/// Today's catalog: reads the settings again when one of the files, or the list of folders, has changed.
package final class ServiceCatalogSource: Sendable {
    private let registry: URL
    private let settings: URL
    private let defaults: CatalogDefaults
    private let last = Mutex<ServiceCatalog?>(nil)

    package init(registry: URL, settings: URL, defaults: CatalogDefaults = CatalogDefaults()) {
        self.registry = registry
        self.settings = settings
        self.defaults = defaults
    }

    /// Costs one listing and one `stat` a service when nothing has changed, so that it can be asked for each event.
    package func current() -> ServiceCatalog {
        last.withLock { last in
            let now = RegistryFingerprint(registry: registry, settings: settings)
            if let last, now.proves(unchangedSince: last.fingerprint) { return last }
            let catalog = ServiceCatalog.load(registry: registry, settings: settings, defaults: defaults)
            last = catalog
            return catalog
        }
    }
}
