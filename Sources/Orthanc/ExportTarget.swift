import Foundation

/// The open folders of one export.
struct ExportTarget: Sendable {
    let run: ExportFolder
    /// By series; all the same one for an event of a series.
    private let folders: [OrthancID: ExportFolder]
    /// Of the images that were there before.
    let sizes: [OrthancID: Int64]
    private let parent: ExportFolder
    private let name: String

    func folder(of instance: OrthancInstance) -> ExportFolder? { folders[instance.series] }

    /// Removes the images, and the folders unless somebody else has put something into them.
    func discard() throws {
        for (series, folder) in folders {
            _ = try folder.tidy(keeping: { _ in false })
            if folder !== run { run.removeEmpty(series.rawValue) }
        }
        parent.removeEmpty(name)
    }

    /// What is there before anything is made.
    struct Draft {
        private let names: [String]
        private let isFlat: Bool
        /// The folders on the way, DATA first, as far as they exist.
        private var chain: [ExportFolder]
        private var sizes: [OrthancID: Int64] = [:]

        /// The one that is nearest to the images: they go to its file system.
        var deepest: ExportFolder { chain[chain.count - 1] }

        init(_ path: String, of root: URL, isFlat: Bool) throws(ExportError) {
            names = try ExportFolder.names(of: path)
            self.isFlat = isFlat
            chain = [try ExportFolder.root(root)]
            for name in names {
                guard let next = try deepest.existing(name) else { break }
                chain.append(next)
            }
        }

        private var run: ExportFolder? { chain.count == names.count + 1 ? deepest : nil }

        mutating func tidy(keeping inventory: [OrthancInstance], of series: [OrthancID]) throws(ExportError) {
            guard let run else { return }
            let wanted = Set(inventory.map(\.id))
            for id in series {
                guard let folder = isFlat ? run : try run.existing(id.rawValue) else { continue }
                sizes.merge(try folder.tidy { wanted.contains($0) }) { first, _ in first }
            }
        }

        /// Bytes on the disk of what has yet to come.
        func missingBytes(of inventory: [OrthancInstance], unit: Int64) -> Int64 {
            inventory.reduce(0) { sum, instance in
                sizes[instance.id] == instance.fileSize ? sum : sum + (instance.fileSize + unit - 1) / unit * unit
            }
        }

        mutating func make(_ series: [OrthancID]) throws(ExportError) -> ExportTarget {
            for name in names.dropFirst(chain.count - 1) { chain.append(try deepest.make(name)) }
            let run = deepest
            var folders: [OrthancID: ExportFolder] = [:]
            for id in series { folders[id] = isFlat ? run : try run.make(id.rawValue) }
            return ExportTarget(run: run, folders: folders, sizes: sizes, parent: chain[chain.count - 2], name: names[names.count - 1])
        }
    }
}
