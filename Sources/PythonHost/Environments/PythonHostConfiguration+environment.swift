import Foundation

extension PythonHostConfiguration {
    /// The same with another interpreter, found by name too: what pip has installed beside it comes first in PATH, as `activate` does it.
    func with(python: String) -> PythonHostConfiguration {
        guard python != self.python else { return self }
        var configuration = self
        let folder = URL(filePath: python).deletingLastPathComponent()
        let place = folder.deletingLastPathComponent()
        let path = environment["PATH"] ?? "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        configuration.python = python
        configuration.environment["PATH"] = "\(folder.path):\(path)"
        configuration.environment["PYTHONHOME"] = nil
        let isVirtual = FileManager.default.fileExists(atPath: place.appending(path: "pyvenv.cfg").path)
        configuration.environment["VIRTUAL_ENV"] = isVirtual ? place.path : nil
        return configuration
    }
}
