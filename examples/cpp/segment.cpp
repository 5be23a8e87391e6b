// Segment pictures with an export of `bisenetv1 export --picture_onnx`. The masks are those of `bisenetv1 infer`.
// docs/cpp.md explains how to build and ship it.
#include <algorithm>
#include <csignal>
#include <deque>
#include <fstream>
#include <iostream>
#include <map>
#include <numeric>
#include <set>

#include <opencv2/imgproc.hpp>
#include <openvino/openvino.hpp>
#include <yaml-cpp/yaml.h>

#include "files.hpp"

const char* const USAGE = "usage: segment EXPORTED PICTURE... --save_dir DIR [--mode latency|throughput]";
volatile std::sig_atomic_t stopped = 0;

struct Arguments {
    fs::path exported, save_dir;
    std::set<fs::path> pictures;
    bool throughput = false;
};

struct Export {
    std::shared_ptr<ov::Model> model;  // uint8 [1, H, W, 3] -> int32 [1, H, W]
    bool is_bgr;
    Bytes palette;  // 256 colors: red, green, blue
};

void say(std::string sentence) {  // on one line, because messages of libraries may have several
    std::replace(sentence.begin(), sentence.end(), '\n', ' ');
    std::cerr << "segment: " << sentence << std::endl;
}

// Adds a picture, or those of a list (.txt): one per line, relative to the list's folder. Later words are ignored.
void add(const fs::path& path, std::set<fs::path>& pictures) {
    if (path.extension() != ".txt") {
        pictures.insert(path);
        return;
    }
    std::ifstream list(path);
    if (!fs::is_regular_file(path) || !list) throw Refused("there is no list " + path.string() + ".");
    for (std::string name; std::getline(list, name);) {
        const auto begin = name.find_first_not_of(" \t\r", name.rfind("\xef\xbb\xbf", 0) == 0 ? 3 : 0);
        name.erase(0, begin);  // the indent, the byte order mark of UTF-8, or an empty line
        // Names may have spaces: take the longest existing path, or the first word.
        while (!fs::exists(path.parent_path() / name) && name.find_first_of(" \t\r") != name.npos)
            name.resize(name.find_last_of(" \t\r"));
        if (!name.empty()) pictures.insert(path.parent_path() / name);
    }
}

Arguments parse(const std::vector<std::string>& words) {
    Arguments arguments;
    for (auto word = words.begin(); word != words.end(); ++word) {
        const auto equals = word->find('=');
        const std::string name = word->substr(0, equals);
        if (word->rfind("--", 0) != 0) {
            if (word->empty()) throw Refused(std::string("an argument is empty; ") + USAGE);
            if (arguments.exported.empty()) arguments.exported = *word;
            else add(*word, arguments.pictures);
            continue;
        }
        if (name != "--save_dir" && name != "--mode") throw Refused("there is no " + name + "; " + USAGE);
        if (equals == word->npos && ++word == words.end()) throw Refused(name + " needs a value; " + USAGE);
        const std::string value = equals == name.npos ? *word : word->substr(equals + 1);
        if (name == "--save_dir") arguments.save_dir = value;
        else if (value != "latency" && value != "throughput")
            throw Refused("--mode " + value + ": choose latency or throughput.");
        else arguments.throughput = value == "throughput";
    }
    if (arguments.pictures.empty() || arguments.save_dir.empty()) throw Refused(USAGE);
    return arguments;
}

Bytes palette_of(const YAML::Node& colors) {
    std::vector<cv::Vec3i> known;
    if (colors)
        for (const auto& color : colors) known.emplace_back(color[0].as<int>(), color[1].as<int>(), color[2].as<int>());
    for (int number = 1; !colors && number <= 256; ++number) {  // PaddleSeg's colors: a number's bits, distributed
        cv::Vec3i color;
        for (int bit = 0; bit < 8; ++bit)
            for (int channel = 0; channel < 3; ++channel)
                color[channel] |= (number >> (3 * bit + channel) & 1) << (7 - bit);
        known.push_back(color);
    }
    std::vector<int> grays(259, 0);  // for other numbers: the first that no class has
    std::iota(grays.begin() + 3, grays.end(), 0);
    grays[1] = 224, grays[2] = 255;
    const auto is_free = [&](int gray) { return std::count(known.begin(), known.end(), cv::Vec3i::all(gray)) == 0; };
    const auto other = std::find_if(grays.begin(), grays.end(), is_free);
    known.resize(256, cv::Vec3i::all(other == grays.end() ? 255 : *other));
    Bytes palette;
    for (const auto& color : known) palette += {char(color[0]), char(color[1]), char(color[2])};
    return palette;
}

Export load_export(fs::path path, ov::Core& core) {
    if (fs::is_directory(path)) path /= "deploy.yaml";
    if (!fs::is_regular_file(path)) throw Refused("there is no " + path.string() + ": name the folder of an export.");
    try {
        const YAML::Node deploy = YAML::LoadFile(path.string())["Deploy"];
        const YAML::Node picture = deploy["picture"];
        if (!picture)
            throw Refused(path.string() + " names no picture.onnx: export with `bisenetv1 export --picture_onnx`.");
        const auto model = core.read_model((path.parent_path() / picture["onnx"].as<std::string>()).string());
        const auto taken = model->input().get_partial_shape();
        if (model->output().get_element_type() != ov::element::i32)
            throw Refused(path.string() + ": the export does not end in argmax: export without --output_op.");
        if (model->input().get_element_type() != ov::element::u8 || !taken.compatible({1, -1, -1, 3}))
            throw Refused(path.string() + ": its picture.onnx takes " + taken.to_string() +
                          ", not one picture at a time, [1,H,W,3]: export without --input_shape.");
        return {model, picture["color"].as<std::string>() == "BGR", palette_of(deploy["colors"])};
    } catch (const YAML::Exception& error) {
        throw Refused(path.string() + " is not the deploy.yaml of an export (" + error.what() + "): export again.");
    } catch (const ov::Exception& error) {
        throw Refused(path.string() + ": OpenVINO cannot load its picture.onnx (" + error.what() + "): export again.");
    }
}

cv::Mat mask_of(const ov::Tensor& output, const cv::Size& size) {
    const cv::Mat classes(size, CV_32S, const_cast<void*>(std::as_const(output).data()));
    if (output.get_shape() != ov::Shape{1, std::size_t(size.height), std::size_t(size.width)})
        throw Fault("it needs more memory than there is: make it smaller");  // the output is that of the previous run
    double most;
    cv::minMaxLoc(classes, nullptr, &most);
    if (most > 255) throw Refused("the network has more classes than the 256 that a mask has numbers for.");
    cv::Mat mask;
    classes.convertTo(mask, CV_8U);
    return mask;
}

// Compiles the network once, and runs several pictures at a time.
class Segmenter {
public:
    Segmenter(const Export& exported, bool throughput, ov::Core& core, const fs::path& save_dir)
        : exported_(exported), save_dir_(save_dir) {
        const auto hint = throughput ? ov::hint::PerformanceMode::THROUGHPUT : ov::hint::PerformanceMode::LATENCY;
        compiled_ = core.compile_model(exported.model, "CPU", ov::hint::performance_mode(hint),
                                       ov::hint::inference_precision(ov::element::f32));
        most_ = throughput ? compiled_.get_property(ov::optimal_number_of_infer_requests) : 1;
    }

    // Reads a picture while earlier ones run, and starts it.
    void begin(const fs::path& picture) {
        attempt(picture, [&] {
            cv::Mat pixels = read_picture(picture);
            if (!exported_.is_bgr) cv::cvtColor(pixels, pixels, cv::COLOR_BGR2RGB);
            const ov::Shape shape{1, std::size_t(pixels.rows), std::size_t(pixels.cols), 3};
            const auto taken = exported_.model->input().get_partial_shape();
            if (!taken.compatible(shape))
                throw Fault("the export takes " + taken.to_string() + ", not " + ov::PartialShape(shape).to_string() +
                            "; `bisenetv1 export` without --input_shape takes any");
            if (running_.size() == most_) finish();
            Running next{picture, pixels, compiled_.create_infer_request()};
            next.request.set_input_tensor(ov::Tensor(ov::element::u8, shape, pixels.data));
            next.request.start_async();
            running_.push_back(std::move(next));
        });
    }

    // Waits for the oldest running picture, and writes its masks.
    void finish() {
        Running first = std::move(running_.front());
        running_.pop_front();
        attempt(first.picture, [&] {
            first.request.wait();
            const cv::Mat mask = mask_of(first.request.get_output_tensor(), first.pixels.size());
            const fs::path name = first.picture.stem() += ".png";
            write(save_dir_ / name, png_of(mask));
            write(save_dir_ / "color" / name, png_of(mask, exported_.palette));
            ++done;
        });
    }

    void finish_all() {
        while (!running_.empty()) finish();
    }

    std::size_t done = 0, left_out = 0;

private:
    struct Running {
        fs::path picture;
        cv::Mat pixels;  // the network's input, which the request reads without a copy
        ov::InferRequest request;
    };

    template <typename Action>
    void attempt(const fs::path& picture, const Action& action) {  // a failed picture does not end the program
        std::string why;
        try {
            return action();
        } catch (const Refused&) {
            throw;
        } catch (const std::bad_alloc&) {
            why = "it needs more memory than there is: make it smaller";
        } catch (const std::exception& error) {  // a Fault, or an error of OpenCV, OpenVINO or the file system
            why = error.what();
        }
        say(picture.string() + " was left out (" + why + ").");
        ++left_out;
    }

    const Export& exported_;
    fs::path save_dir_;
    ov::CompiledModel compiled_;
    std::size_t most_;
    std::deque<Running> running_;
};

int segment(const Arguments& arguments) {
    ov::Core core;
    const Export exported = load_export(arguments.exported, core);
    const fs::path folders[] = {arguments.save_dir, arguments.save_dir / "color"};
    std::map<fs::path, fs::path> named;
    for (const auto& picture : arguments.pictures) {
        const fs::path name = picture.stem() += ".png";
        const auto [other, is_new] = named.emplace(name, picture);
        if (!is_new)
            throw Refused(other->second.string() + " and " + picture.string() + " would both give " + name.string() +
                          ": run them separately.");
        for (const auto& folder : folders) check_target(folder / name, arguments.pictures);
    }
    if (fs::exists(folders[1]) && fs::equivalent(folders[0], folders[1]))
        throw Refused(folders[1].string() + " leads to " + folders[0].string() +
                      ", where each mask would replace another: name another place for the results.");
    for (const auto& folder : folders) fs::create_directories(folder);

    Segmenter segmenter(exported, arguments.throughput, core, arguments.save_dir);
    for (const auto& picture : arguments.pictures)
        if (!stopped) segmenter.begin(picture);
    segmenter.finish_all();
    if (segmenter.done) std::cout << "The masks are in " << arguments.save_dir.string() << std::endl;
    if (!stopped) return segmenter.left_out ? 1 : 0;
    say("stopped at " + std::to_string(segmenter.done + segmenter.left_out) + " of " +
        std::to_string(arguments.pictures.size()) + ".");
    return 130;
}

int main(int count, char** words) {
    for (int signal : {SIGINT, SIGTERM}) std::signal(signal, [](int) { stopped = 1; });
#ifdef SIGXFSZ
    std::signal(SIGXFSZ, SIG_IGN);  // a write beyond the file size limit then fails with an error
#endif
    try {
        if (count == 2 && std::string(words[1]) == "--help") {
            std::cout << USAGE << std::endl;
            return 0;
        }
        return segment(parse({words + 1, words + count}));
    } catch (const fs::filesystem_error& error) {
        say(error.path1().string() + ": " + error.code().message() + "; choose another folder.");
    } catch (const std::exception& error) {  // Refused, or for example a missing OpenVINO plugin
        say(error.what());
    }
    return 2;
}
